from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("concurrent", "0002_djangos_operation")]
    operations = [
        migrations.RunSQL(
            # IF NOT EXISTS is content with an index that is there and not valid.
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS parcel_height ON concurrent_parcel (height)",
            "DROP INDEX CONCURRENTLY IF EXISTS parcel_height",
            state_operations=[
                migrations.AddIndex(
                    "Parcel", models.Index(fields=["height"], name="parcel_height")
                ),
            ],
        ),
    ]
