"""The tables behind ``django:``."""
# ruff: noqa: RUF012 - the form that makemigrations writes

from django.db import migrations, models

import django_acme_middleware.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Fetch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", django_acme_middleware.models.BytewiseCharField(db_index=True, max_length=128)),
                ("at", models.FloatField()),
                ("address", models.CharField(max_length=64)),
                ("agent", models.CharField(max_length=200)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Record",
            fields=[
                ("key", django_acme_middleware.models.BytewiseCharField(max_length=400, primary_key=True, serialize=False)),
                ("value", models.BinaryField()),
                ("version", django_acme_middleware.models.BytewiseCharField(max_length=64)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                ("token", django_acme_middleware.models.BytewiseCharField(max_length=128, primary_key=True, serialize=False)),
                ("key_authorization", models.TextField()),
                ("expires", models.DateTimeField(db_index=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Certificate",
            fields=[],
            options={
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("acme_middleware.record",),
        ),
    ]
