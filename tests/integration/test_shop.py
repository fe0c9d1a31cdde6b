"""The shop works as a shop: what the demo and the end-to-end tests stand on."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from project.shop.models import Customer, Order, Product
from project.shop.trouble import FAILURES

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser() -> Client:
    call_command("shop_seed", "--customers=5", "--orders=10", verbosity=0)
    return Client(raise_request_exception=False)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/health/", 200),
        ("/products/", 200),
        ("/products/?category=flour&page=2", 200),
        ("/products/?category=no-such-shelf", 404),
        ("/products/rye-fine/", 200),
        ("/products/no-such-product/", 404),
        ("/cart/", 200),
        ("/reports/sales/", 200),
        ("/reports/n-plus-one/", 200),
        ("/slow/", 200),
        ("/forbidden/", 403),
        ("/broken/no-such-way/", 404),
        ("/api/items/", 200),
        ("/api/items/0/", 404),
        ("/api/search/?q=rye", 200),
        ("/admin/login/", 200),
        ("/static/admin/css/base.css", 200),
    ],
)
def test_pages(browser: Client, path: str, status: int) -> None:
    reply = browser.get(path)
    reply.close()  # static files come from an open file
    assert reply.status_code == status


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_is_a_500(browser: Client, kind: str) -> None:
    assert browser.get(f"/broken/{kind}/").status_code == 500


def test_buying_something(browser: Client) -> None:
    product, customer = Product.objects.all()[0], Customer.objects.all()[0]
    browser.post("/cart/add/", {"product": product.pk, "quantity": 2})
    assert product.name in browser.get("/cart/").content.decode()
    reply = browser.post("/checkout/", {"customer": customer.pk})
    order = Order.objects.get(pk=int(reply["Location"].split("/")[2]))
    assert order.customer == customer
    assert order.total == 2 * product.price
    assert browser.post("/checkout/", {"customer": customer.pk}).status_code == 400


@pytest.mark.parametrize(("product", "quantity", "status"), [("x", "1", 404), ("", "0", 404)])
def test_adding_nonsense(browser: Client, product: str, quantity: str, status: int) -> None:
    posted = {"product": product, "quantity": quantity}
    assert browser.post("/cart/add/", posted).status_code == status


def test_forms_need_a_csrf_token() -> None:
    assert Client(enforce_csrf_checks=True).post("/checkout/").status_code == 403


def test_reserving_stops_at_the_stock(browser: Client) -> None:
    product = Product.objects.all()[0]
    Product.objects.filter(pk=product.pk).update(stock=3)
    path = f"/api/items/{product.pk}/reserve/"

    def reserve(body: object, token: str = "Bearer t") -> int:
        return browser.post(
            path, body, content_type="application/json", headers={"Authorization": token}
        ).status_code

    assert reserve({"quantity": 2}) == 200
    assert reserve({"quantity": 2}) == 409
    assert reserve({"quantity": "2"}) == 400
    assert reserve({"quantity": 1}, token="") == 401


def test_the_n_plus_one_page_is_one(browser: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        browser.get("/reports/n-plus-one/")
    assert len(queries) > 2 * Order.objects.count()
