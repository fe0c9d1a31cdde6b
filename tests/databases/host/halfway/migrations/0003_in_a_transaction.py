from django.db import migrations, models

from databases.host.halfway.hang import hang_in


class Migration(migrations.Migration):
    dependencies = [("halfway", "0002_without_transaction")]
    operations = [
        migrations.AddField("Part", "height", models.IntegerField(default=0)),
        migrations.RunPython(hang_in("0003"), migrations.RunPython.noop),
    ]
