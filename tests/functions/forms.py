"""Frameworks that read a body by its ``Content-Length``: Flask behind two WSGI bridges, and Django."""

import warnings
from typing import Any

import django
from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import re_path
from fastapi import FastAPI, Request
from flask import Flask, request
from starlette.types import ASGIApp

from adapter import StreamingAdapter

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[], DATABASES={})
django.setup()
flask = Flask("flask")
app = FastAPI()


@flask.post("/form")
def flask_form() -> dict[str, Any]:
    return {"form": request.form.to_dict()}


def django_form(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"form": request.POST.dict()})


urlpatterns = [re_path(".*", django_form)]


@app.post("/fastapi/form")
async def fastapi_form(request: Request) -> dict[str, Any]:
    return {"form": dict(await request.form())}


def starlettes(app: Any) -> ASGIApp:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and used
        from starlette.middleware.wsgi import WSGIMiddleware

        return WSGIMiddleware(app)


def a2wsgis(app: Any) -> Any:
    return WSGIMiddleware(app)


app.mount("/a2wsgi", a2wsgis(flask))
app.mount("/starlette", starlettes(flask))
app.mount("/django", get_asgi_application())

handler = StreamingAdapter(app)
