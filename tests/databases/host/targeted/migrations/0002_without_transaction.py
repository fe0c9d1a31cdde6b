from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("targeted", "0001_initial")]
    operations = [
        migrations.RunSQL(
            "INSERT INTO marks (place) VALUES ('step')",
            "DELETE FROM marks WHERE place = 'step'",
            hints={"target_db": "blog_db"},
        ),
    ]
