from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("weather", "0002_hypertable")]
    operations = [
        migrations.AddField("weatherreading", "note", models.CharField(default="", max_length=50)),
        migrations.AddIndex("weatherreading", models.Index(fields=["note"], name="weather_note")),
    ]
