"""Routes of the shop."""

from __future__ import annotations

from django.urls import path

from project.shop import api, trouble, views

app_name = "shop"
urlpatterns = [
    path("", views.home, name="home"),
    path("health/", api.health, name="health"),
    path("products/", views.products, name="products"),
    path("products/<slug:slug>/", views.product, name="product"),
    path("cart/", views.cart, name="cart"),
    path("cart/add/", views.add_to_cart, name="add-to-cart"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/<int:pk>/", views.order, name="order"),
    path("reports/sales/", views.sales, name="sales"),
    path("reports/n-plus-one/", trouble.n_plus_one, name="n-plus-one"),
    path("slow/", trouble.slow, name="slow"),
    path("forbidden/", trouble.forbidden, name="forbidden"),
    path("broken/<str:kind>/", trouble.broken, name="broken"),
    path("api/items/", api.items, name="api-items"),
    path("api/items/<int:pk>/", api.item, name="api-item"),
    path("api/items/<int:pk>/reserve/", api.reserve, name="api-reserve"),
    path("api/search/", api.search, name="api-search"),
]
