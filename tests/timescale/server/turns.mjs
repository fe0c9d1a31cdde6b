// Clients of PostgreSQL's protocol take turns at the one session that PGlite has.
//
// A turn lasts until the session is idle again: a statement, or a whole transaction. That is
// what transaction pooling does, so all the clients must agree on what SET changes.
//
// (The package @electric-sql/pglite-socket serves one connection at a time, and ends with the
// first statement that TCP delivers in more than one piece, which is one of 64 KiB.)

const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102
const HEAD_BYTES = 5
const MESSAGE_BYTES_MAX = 512 * 1024 * 1024
const [TERMINATE, QUERY, READY] = [...'XQZ'].map((letter) => letter.charCodeAt(0))
const IDLE = 'I'

/** Whose turn it is. */
export class Turns {
  #waiting = []
  #owner = null

  /** Call back, now or later, when it is this client's turn. */
  take(client, go) {
    if (this.#owner === null) this.#owner = client
    if (this.#owner === client) go()
    else this.#waiting.push({ client, go })
  }

  /** End a client's turn, or its waiting. */
  end(client) {
    this.#waiting = this.#waiting.filter((each) => each.client !== client)
    if (this.#owner !== client) return
    this.#owner = null
    const next = this.#waiting.shift()
    if (next) this.take(next.client, next.go)
  }
}

/** One connection. */
export class Client {
  #db
  #turns
  #socket
  #unread = Buffer.alloc(0)
  #isStarted = false
  #isWaiting = false
  #isClosed = false
  #status = IDLE

  constructor(db, turns, socket) {
    this.#db = db
    this.#turns = turns
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (data) => {
      this.#unread = this.#unread.length ? Buffer.concat([this.#unread, data]) : data
      this.#ask()
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#close())
  }

  #ask() {
    if (!this.#isStarted) this.#refuseEncryption()
    if (this.#isWaiting || this.#isClosed || this.#complete() === 0) return
    this.#isWaiting = true
    this.#turns.take(this, () => {
      this.#isWaiting = false
      this.#run()
    })
  }

  #run() {
    const length = this.#complete()
    const messages = this.#unread.subarray(0, length)
    this.#unread = this.#unread.subarray(length)
    this.#isStarted = true
    if (messages[0] === TERMINATE) {
      this.#socket.end()
      return
    }
    const answer = Buffer.from(this.#db.execProtocolRawSync(new Uint8Array(messages)))
    this.#status = statusAtEnd(answer)
    if (answer.length) this.#socket.write(answer)
    if (this.#status === IDLE) this.#turns.end(this)
    this.#ask()
  }

  /** Return how many bytes of whole messages have come. */
  #complete() {
    if (!this.#isStarted) {
      const whole = this.#unread.length >= 8 && this.#unread.length >= this.#unread.readInt32BE(0)
      return whole ? this.#unread.readInt32BE(0) : 0
    }
    let at = 0
    while (this.#unread.length >= at + HEAD_BYTES) {
      const length = this.#unread.readInt32BE(at + 1)
      if (length < 4 || length > MESSAGE_BYTES_MAX) throw new Error(`message of ${length} bytes`)
      if (this.#unread.length < at + 1 + length) break
      if (this.#unread[at] === TERMINATE && at > 0) break
      at += 1 + length
    }
    return at
  }

  #refuseEncryption() {
    while (this.#unread.length >= 8) {
      const code = this.#unread.readInt32BE(4)
      if (code === CANCEL_REQUEST) return this.#socket.destroy()
      if (code !== SSL_REQUEST && code !== GSS_REQUEST) return
      this.#unread = this.#unread.subarray(8)
      this.#socket.write('N')
    }
  }

  #close() {
    this.#isClosed = true
    // Whoever leaves in the middle of a transaction leaves nothing behind.
    if (this.#status !== IDLE) this.#db.execProtocolRawSync(query('ROLLBACK'))
    this.#turns.end(this)
  }
}

/** Return the state that the session says it is in; '' where it has not ended its answer. */
function statusAtEnd(answer) {
  const at = answer.length - 6
  return at >= 0 && answer[at] === READY && answer.readInt32BE(at + 1) === 5
    ? String.fromCharCode(answer[at + 5])
    : ''
}

function query(text) {
  const body = Buffer.from(`${text}\0`)
  const head = Buffer.alloc(HEAD_BYTES)
  head[0] = QUERY
  head.writeInt32BE(body.length + 4, 1)
  return new Uint8Array(Buffer.concat([head, body]))
}
