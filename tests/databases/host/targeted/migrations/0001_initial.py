from django.db import migrations, models


def mark(apps, schema_editor):
    schema_editor.execute("INSERT INTO marks (place) VALUES (%s)", ["code"])


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.CharField(max_length=50)),
            ],
        ),
        migrations.RunSQL(
            "CREATE TABLE marks (place varchar(20))",
            "DROP TABLE marks",
            hints={"target_db": "blog_db"},
        ),
        migrations.RunPython(mark, migrations.RunPython.noop, hints={"target_db": "blog_db"}),
    ]
