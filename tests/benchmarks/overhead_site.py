"""One Django process with one kind of telemetry, or none: what a request costs in CPU.

Run by ``bench_overhead``, which compares. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

VARIANTS = ["bare", "tailrace", "opentelemetry", "sentry", "orbit", "silk"]
QUERIES = 5

Finish = Callable[[], None]


def configure(variant: str, directory: str, redis_url: str, is_persistent: bool) -> None:
    """Set Django up with the apps and the middleware that a peer's README asks for."""
    from django.conf import settings

    apps = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
    middleware: list[str] = []
    extra: dict[str, Any] = {}
    if variant == "tailrace":
        apps.append("tailrace.django_integration")
        middleware = ["tailrace.django_integration.middleware.TelemetryMiddleware"]
        extra["TAILRACE"] = {"REDIS_URL": redis_url, "SPOOL_DIR": directory}
    elif variant == "orbit":
        apps.append("orbit")
        middleware = ["orbit.middleware.OrbitMiddleware"]
        extra["ORBIT_CONFIG"] = {"ENABLED": True}
    elif variant == "silk":
        apps += ["django.contrib.messages", "silk"]
        middleware = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "silk.middleware.SilkyMiddleware",
        ]
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=apps,
        MIDDLEWARE=middleware,
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.path.join(directory, f"{variant}.sqlite3"),
                # With a connection a request, Django's default, SQLite parses the schema once
                # a request; our tables alone take it 0.1 ms.
                "CONN_MAX_AGE": None if is_persistent else 0,
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                },
            }
        },
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        STATIC_URL="static/",
        **extra,
    )


def start(variant: str) -> Finish:
    """Start what runs beside Django; return what sends its last events."""
    if variant == "tailrace":
        from tailrace.pipeline import flush

        return lambda: _must(flush(30))
    if variant == "opentelemetry":
        return _start_opentelemetry()
    if variant == "sentry":
        return _start_sentry()
    return lambda: None


def _start_opentelemetry() -> Finish:
    from opentelemetry import trace
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Drop(SpanExporter):
        """Takes the spans and does nothing with them: the exporter's cost is not counted."""

        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Drop()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()
    SQLite3Instrumentor().instrument()
    return lambda: _must(provider.force_flush())


def _start_sentry() -> Finish:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Drop(Transport):
        """Serialises, as the real one does, and sends nothing."""

        def capture_envelope(self, envelope: Any) -> None:
            envelope.serialize_into(io.BytesIO())

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Drop, spotlight=False
    )
    return sentry_sdk.flush


def _must(is_done: bool) -> None:
    if not is_done:
        raise RuntimeError("the last events were not sent")


def view(request: Any) -> Any:
    """Run the queries of an ordinary page."""
    from django.contrib.auth.models import User
    from django.http import HttpResponse

    for number in range(QUERIES):
        User.objects.filter(username=f"user{number}").first()
    return HttpResponse(b"hello")


def _urlpatterns() -> list[Any]:
    from django.urls import path

    return [path("items/<int:pk>/", lambda request, pk: view(request))]


def __getattr__(name: str) -> Any:
    # The URL configuration is this module, and may be asked for after settings exist only.
    if name == "urlpatterns":
        return _urlpatterns()
    raise AttributeError(name)


def measure(requests: int, finish: Finish) -> dict[str, float]:
    """Send requests through the WSGI handler; return CPU and wall microseconds a request."""
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()

    def answered(status: str, headers: Any) -> None:
        assert status == "200 OK", status

    def send(number: int) -> None:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": f"/items/{number}/",
            "QUERY_STRING": "page=2",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "HTTP_USER_AGENT": "benchmark",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
        }
        response = handler(environ, answered)
        body = b"".join(response)
        response.close()
        assert body == b"hello"

    for number in range(100):
        send(number)
    finish()
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(requests):
        send(number)
    finish()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_us": cpu / requests * 1e6, "wall_us": wall / requests * 1e6}


def captured(variant: str, redis_url: str) -> int | None:
    """Return how many events of ours are in Redis: the figure must be of the whole job."""
    if variant != "tailrace":
        return None
    from tailrace.pipeline.runtime import runtime

    return sum(
        sum(status.in_flight.get(name, 0) for name in ("request", "query"))
        for status in runtime().status("default")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--redis-url", default="")
    parser.add_argument("--persistent", action="store_true", help="keep the connection open")
    arguments = parser.parse_args()
    sys.modules["overhead_site"] = sys.modules[__name__]
    with tempfile.TemporaryDirectory() as directory:
        configure(arguments.variant, directory, arguments.redis_url, arguments.persistent)
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        figures: dict[str, Any] = measure(arguments.requests, start(arguments.variant))
        figures["captured"] = captured(arguments.variant, arguments.redis_url)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
