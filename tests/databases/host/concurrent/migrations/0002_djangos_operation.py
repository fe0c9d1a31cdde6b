from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("concurrent", "0001_initial")]
    operations = [
        AddIndexConcurrently("Parcel", models.Index(fields=["weight"], name="parcel_weight")),
    ]
