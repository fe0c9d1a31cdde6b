from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Station",
            [
                (
                    "id",
                    models.BigAutoField(
                        primary_key=True, auto_created=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=50)),
            ],
        ),
        migrations.CreateModel(
            "WeatherReading",
            [
                (
                    "id",
                    models.BigAutoField(
                        primary_key=True, auto_created=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("timestamp", models.DateTimeField()),
                ("temperature", models.FloatField(null=True)),
                ("rain_mm", models.IntegerField(null=True)),
                ("price", models.DecimalField(decimal_places=3, max_digits=12, null=True)),
                (
                    "device",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="weather.station"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["device", "timestamp"], name="weather_device_time")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(rain_mm__gte=0) | models.Q(rain_mm=None),
                        name="weather_no_sun",
                    )
                ],
            },
        ),
    ]
