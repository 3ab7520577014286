"""What the docs show for Slack Bolt; `auth.test`, by which Bolt learns whose token it has, is answered here."""

import importlib
from typing import Any

from slack_sdk import WebClient
from slack_sdk.web import SlackResponse
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

WHO = {"ok": True, "team_id": "T1", "bot_id": "B1", "user_id": "U1"}


def answer(client: WebClient, *args: Any, **kwargs: Any) -> SlackResponse:
    return SlackResponse(
        client=client, http_verb="POST", api_url="auth.test", req_args={}, data=WHO, headers={}, status_code=200
    )


async def async_answer(client: AsyncWebClient, *args: Any, **kwargs: Any) -> AsyncSlackResponse:
    return AsyncSlackResponse(
        client=client, http_verb="POST", api_url="auth.test", req_args={}, data=WHO, headers={}, status_code=200
    )


WebClient.auth_test = answer  # type: ignore[assignment, method-assign]
AsyncWebClient.auth_test = async_answer  # type: ignore[assignment, method-assign]

handler = importlib.import_module("snippet").handler
