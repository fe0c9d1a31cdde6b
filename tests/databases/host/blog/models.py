"""Posts: in a database of their own, with an author in another one."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Post(models.Model):
    """A post; its author lives in another database, so the database cannot check the link."""

    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="blog_posts",
    )
    title = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.title


class Comment(models.Model):
    """A comment, in the database of its post."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="comments")
    text = models.TextField()

    def __str__(self) -> str:
        return self.text
