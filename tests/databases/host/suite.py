"""A host project's own tests: plain Django test cases, and no ``databases`` in any of them."""

# ruff: noqa: PT009 (plain Django test cases are the point)

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase

from databases.host.blog.models import Comment, Post
from databases.host.shop.models import Order


class OrdersInATransaction(TestCase):
    """The usual test case."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Make rows for the class."""
        cls.order = Order.objects.create(number=1)

    def test_reads_what_was_written(self) -> None:
        """Through the routers, with a replica among them."""
        self.order.lines.create(product="pen")
        self.assertEqual(Order.objects.get(lines__product="pen"), self.order)

    def test_rollback(self) -> None:
        """Each test starts from the class's rows."""
        self.assertEqual(self.order.lines.count(), 0)


class OrdersWithoutATransaction(TransactionTestCase):
    """No transaction around the test: reads could go to a replica."""

    def test_reads_what_was_written(self) -> None:
        """In and after a transaction of its own."""
        with transaction.atomic():
            Order.objects.create(number=2)
        self.assertEqual(Order.objects.get().number, 2)

    def test_reads_before_it_writes(self) -> None:
        """A first read pins nothing yet."""
        self.assertFalse(Order.objects.exists())
        Order.objects.create(number=3)
        self.assertTrue(Order.objects.exists())


class Blog(TestCase):
    """Models of an app that is routed to an alias of its own."""

    def test_relations_both_ways(self) -> None:
        """``author=user``, ``post.author``, ``user.blog_posts.all()``."""
        user = get_user_model().objects.create_user("ann")
        post = Post.objects.create(author=user, title="one")
        Comment.objects.create(post=post, text="first")
        self.assertEqual(Post.objects.get().author.username, "ann")
        self.assertEqual([found.title for found in user.blog_posts.all()], ["one"])
        self.assertEqual(post.comments.get().text, "first")


class BlogWithoutATransaction(TransactionTestCase):
    """The same, with rows that are flushed afterwards."""

    def test_posts(self) -> None:
        """Write and read."""
        user = get_user_model().objects.create_user("bob")
        Post.objects.create(author=user, title="two")
        self.assertEqual(user.blog_posts.count(), 1)


class Pages(TestCase):
    """Requests of the test client."""

    def test_login_page(self) -> None:
        """Signals of the request run; they must not close what the test needs."""
        get_user_model().objects.create_superuser("root", password="root")
        client = Client()
        self.assertTrue(client.login(username="root", password="root"))
        self.assertEqual(client.get("/admin/").status_code, 200)
        self.assertEqual(client.get("/healthz").status_code, 200)


class NoDatabase(SimpleTestCase):
    """A test that may not touch any database."""

    def test_routing_asks_no_database(self) -> None:
        """Django's own guard is what speaks up, with its own words."""
        with self.assertRaisesMessage(AssertionError, "Database queries to 'default'"):
            list(Order.objects.all())
