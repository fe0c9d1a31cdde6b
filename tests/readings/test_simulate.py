"""``manage.py tailrace_simulate``: what it says it sent is what is stored."""

from __future__ import annotations

import io
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from servers import RedisServer

from readings.conftest import Storage
from readings.station.models import MeterReading, WeatherStationReading
from readings.test_processes import ReadingsSite, make_site
from tailrace.backends.model_tables import table_of
from tailrace.django_integration import conf
from tailrace.django_integration.models import Device, Event
from tailrace.django_integration.recorders import install_recorders
from tailrace.django_integration.simulation.devices import Fleet, messages
from tailrace.django_integration.simulation.progress import Progress
from tailrace.django_integration.simulation.web import discovered_paths

NOON = datetime(2024, 5, 15, 12, tzinfo=UTC)


def simulate(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("tailrace_simulate", *arguments, stdout=out, stderr=err, skip_checks=True)
    return out.getvalue(), err.getvalue()


def test_devices(storage: Storage) -> None:
    out, err = simulate(
        *("weatherstation", "--count=20", "--interval=60", "--duration=6000", "--fast"),
        *("--realistic", "--late=0.1", "--duplicates=0.05", "--clock-skew=30", "--seed=7"),
    )
    storage.settle()
    assert storage.reasons() == []
    match = re.match(r"([\d,]+) readings of 20 devices.*: (\d+) late, (\d+) duplicates", out)
    assert match, out
    sent, late, twice = (int(text.replace(",", "")) for text in match.groups())
    assert WeatherStationReading.objects.count() == sent == 2_000 + twice
    assert 60 < twice < 140
    assert 150 < late < 260
    assert "all of it is in Redis" in out
    assert "100%" in err
    assert set(Device.objects.values_list("identifier", flat=True)) == {
        f"sim-{n:04d}" for n in range(1, 21)
    }
    values = WeatherStationReading.objects.values_list("temperature", "humidity", "pressure")
    temperatures, humidities, pressures = zip(*values, strict=True)
    assert -10 < min(temperatures) < max(temperatures) < 45
    assert None in humidities
    assert all(value is None or 870 <= value <= 1085 for value in pressures)
    # The same devices again.
    simulate("station.WeatherStationReading", "--count=20", "--duration=5", "--fast")
    storage.settle()
    assert Device.objects.count() == 20
    assert WeatherStationReading.objects.count() == sent + 20


def test_in_real_time(storage: Storage) -> None:
    started = time.monotonic()
    simulate("power.meter", "--count=2", "--interval=0.2", "--duration=1", "--prefix=m-")
    assert time.monotonic() - started >= 0.8
    storage.settle()
    assert MeterReading.objects.count() == 10
    assert abs(MeterReading.objects.latest("timestamp").timestamp - datetime.now(UTC)) < (
        timedelta(seconds=5)
    )


def test_the_same_seed_is_the_same_fleet() -> None:
    fleet = Fleet(
        count=3, interval_seconds=10, duration_seconds=500, late=0.3, duplicates=0.2, seed=5
    )
    table = table_of(WeatherStationReading)
    first, again = (list(messages(fleet, table, [1, 2, 3], NOON)) for _ in range(2))
    assert first == again
    rounds = [sent.round for sent in first]
    assert rounds == sorted(rounds)
    late = [sent for sent in first if sent.is_late]
    assert late
    assert all(sent.timestamp < NOON + timedelta(seconds=sent.round * 10) for sent in late)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["thermostat"], "no model of readings is called 'thermostat'; there are: power.meter"),
        (["station.Visit"], "no model of readings"),
        (["weatherstation", "--count=0"], "write at least 1"),
        (["weatherstation", "--late=2"], "from 0 to 1"),
        (["weatherstation", "--interval=0"], "more than 0"),
        (["web", "--url=ftp://x"], "write http://"),
    ],
)
def test_wrong_arguments(storage: Storage, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=re.escape(words)):
        simulate(*arguments)


def test_web_traffic_in_this_process(storage: Storage) -> None:
    middleware = ["tailrace.django_integration.middleware.TelemetryMiddleware"]
    # Another test may have taken the recorders off; installing them twice is as good as once.
    install_recorders(conf.get_config())
    with override_settings(ROOT_URLCONF="readings.urls", MIDDLEWARE=middleware):
        assert discovered_paths() == ["/", "/old/", "/shop/bad/", "/shop/list/"]
        out, _ = simulate("web", "--rate=200", "--duration=0.3", "--seed=3")
    storage.settle()
    match = re.match(r"60 requests to 4 paths .*: 200: (\d+), 500: (\d+)", out)
    assert match, out
    assert sum(map(int, match.groups())) == 60
    requests = Event.objects.filter(measurement="request")
    assert requests.count() == 60
    assert requests.filter(tags__status="500").count() == int(match[2])
    assert Event.objects.filter(measurement="exception").count() == int(match[2])


def test_progress_on_a_terminal_and_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        with Progress(stream, 4, "readings") as progress:
            progress.advance(2)
            progress.advance(2)
    assert terminal.getvalue().startswith("\r[###############...............]  50%  2 readings")
    assert "100%  4 readings" in terminal.getvalue().splitlines()[-1]
    assert log.getvalue().count("\n") == 1


@pytest.mark.faults
def test_interrupted(tmp_path: Path, own_redis_server: RedisServer) -> None:
    """Ctrl-C ends it with a summary, and what it says was sent is stored, each once."""
    site: ReadingsSite = make_site(tmp_path, own_redis_server, "")
    site.migrate()
    arguments = ("weatherstation", "--count=50", "--interval=0.1", "--duration=120")
    process = site.start("django", "tailrace_simulate", *arguments)
    log = tmp_path / "django-0.log"
    deadline = time.monotonic() + 30
    while not site.rows("SELECT 1 FROM tailrace_device LIMIT 1"):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    text = log.read_text()
    match = re.search(r"([\d,]+) readings of 50 devices", text)
    assert match, text
    assert "interrupted" in text
    assert "Traceback" not in text
    site.drain()
    sent = int(match[1].replace(",", ""))
    assert sent > 50
    assert site.rows("SELECT count(*) FROM station_weatherstationreading") == [(sent,)]
    site.assert_balanced("weatherstation", captured=sent, stored=sent)
    site.stop_all()


def test_web_traffic_to_a_server(live_site: Any) -> None:
    out, err = simulate("web", f"--url={live_site}", "--rate=100", "--duration=0.5", "--path=/x")
    assert re.match(r"50 requests to 1 paths in .*: 200: 50\n", out), out
    assert "100%" in err
    nobody, _ = simulate("web", "--url=http://127.0.0.1:9", "--rate=50", "--duration=0.1")
    assert "failed: 5" in nobody


@pytest.fixture
def live_site() -> Any:
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)
