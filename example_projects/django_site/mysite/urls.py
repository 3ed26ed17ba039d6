"""The site's pages."""

from django.contrib import admin
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_not_required
from django.urls import path

from mysite import views

urlpatterns = [
    path("", views.home, name="home"),
    path("healthz", views.healthz, name="healthz"),
    path("account/", views.account, name="account"),
    path("login/", login_not_required(auth.LoginView.as_view(template_name="login.html")), name="login"),
    path("logout/", auth.LogoutView.as_view(next_page="home"), name="logout"),
    path("admin/", admin.site.urls),
]
