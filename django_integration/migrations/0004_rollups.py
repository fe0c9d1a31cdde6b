from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tailrace", "0003_permissions"),
    ]

    operations = [
        migrations.CreateModel(
            name="RollupInvalidation",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "owner",
                    models.CharField(
                        help_text="source:<its id>, level:<its id> or unwanted:<level's id>",
                        max_length=80,
                    ),
                ),
                ("low_us", models.BigIntegerField()),
                ("high_us", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "invalidation",
                "indexes": [
                    models.Index(fields=["owner", "low_us"], name="tailrace_invalid_owner")
                ],
            },
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=64)),
                ("name", models.CharField(max_length=150)),
                ("owner", models.CharField(blank=True, default="", max_length=64)),
                ("expires_us", models.BigIntegerField(default=0)),
                (
                    "runs",
                    models.TextField(
                        default="[]", help_text="The latest ones, as JSON, newest first."
                    ),
                ),
            ],
            options={
                "verbose_name": "job",
                "constraints": [
                    models.UniqueConstraint(fields=("backend", "name"), name="tailrace_job_unique")
                ],
            },
        ),
        migrations.CreateModel(
            name="RollupBucket",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("level_id", models.BigIntegerField()),
                ("bucket_us", models.BigIntegerField(help_text="Its first instant.")),
                (
                    "group",
                    models.TextField(help_text="Values of the tags grouped by, as a JSON list."),
                ),
                (
                    "field",
                    models.CharField(
                        blank=True, help_text="Empty: the rows themselves.", max_length=200
                    ),
                ),
                (
                    "count",
                    models.BigIntegerField(
                        help_text="Values that are not null, of any type; or rows."
                    ),
                ),
                (
                    "wholes",
                    models.BigIntegerField(default=0, help_text="How many of them are integers."),
                ),
                (
                    "others",
                    models.BigIntegerField(default=0, help_text="How many are other numbers."),
                ),
                ("whole_sum", models.TextField(default="0", help_text="Exact, of any size.")),
                ("other_sum", models.TextField(default="0", help_text="A float or a decimal.")),
                ("whole_min", models.BigIntegerField(null=True)),
                ("whole_max", models.BigIntegerField(null=True)),
                ("other_min", models.TextField(blank=True, default="")),
                ("other_max", models.TextField(blank=True, default="")),
                ("sketch", models.BinaryField(null=True)),
            ],
            options={
                "verbose_name": "rollup bucket",
                "indexes": [
                    models.Index(fields=["level_id", "bucket_us"], name="tailrace_bucket_level")
                ],
            },
        ),
        migrations.CreateModel(
            name="RollupLevel",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=64)),
                ("rollup", models.CharField(max_length=64)),
                ("level", models.BigIntegerField()),
                ("source", models.CharField(max_length=200)),
                ("fingerprint", models.CharField(max_length=64)),
                ("declaration", models.TextField(help_text="What was declared, as JSON.")),
                (
                    "is_declared_here",
                    models.BooleanField(
                        default=False, help_text="By continuous_aggregate(), and in no settings."
                    ),
                ),
                (
                    "floor_us",
                    models.BigIntegerField(
                        help_text="First time whose buckets are all there: retention has been before it."
                    ),
                ),
            ],
            options={
                "verbose_name": "rollup level",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend", "rollup", "level"), name="tailrace_rollup_level"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RollupSource",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=64)),
                ("source", models.CharField(max_length=200)),
                (
                    "threshold_us",
                    models.BigIntegerField(help_text="First time that no refresh has reached."),
                ),
                (
                    "floor_us",
                    models.BigIntegerField(
                        help_text="First time whose rows are all there: retention has been before it."
                    ),
                ),
                (
                    "grain_us",
                    models.BigIntegerField(
                        default=1000000, help_text="Width of the finest buckets of its rollups."
                    ),
                ),
            ],
            options={
                "verbose_name": "rolled-up source",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("source", "backend"), name="tailrace_rollup_source"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RetentionPolicy",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=64)),
                (
                    "target",
                    models.CharField(help_text="app_label.Model of the readings.", max_length=200),
                ),
                ("drop_after", models.CharField(max_length=32)),
            ],
            options={
                "verbose_name": "retention policy",
                "verbose_name_plural": "retention policies",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend", "target"), name="tailrace_policy_unique"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RetentionState",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=64)),
                ("target", models.CharField(max_length=200)),
                ("state", models.TextField(default="{}", help_text="As JSON.")),
            ],
            options={
                "verbose_name": "retention state",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("backend", "target"), name="tailrace_retained_unique"
                    )
                ],
            },
        ),
    ]
