from __future__ import annotations

from django.db import migrations

from tailrace.backends.timescale import CreateHypertable


class Migration(migrations.Migration):
    dependencies = [("weather", "0001_initial")]
    operations = [CreateHypertable("weather_weatherreading")]
