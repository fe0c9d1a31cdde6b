from django.db import migrations, models

from databases.host.halfway.hang import hang_in


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("halfway", "0001_initial")]
    operations = [
        migrations.AddField("Part", "colour", models.CharField(max_length=20, default="")),
        migrations.RunPython(hang_in("0002"), migrations.RunPython.noop),
        migrations.AddField("Part", "weight", models.IntegerField(default=0)),
        migrations.AddIndex("Part", models.Index(fields=["weight"], name="part_weight")),
    ]
