"""Plays Slack's part, so that the page can show the slash command without a Slack workspace.

Served only with SLACK_DEMO=1, and meant for your own machine: it signs a slash command for whoever asks.
What it signs is fixed, and its response_url leads back here.
"""

import os
import time
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel
from slack_sdk.signature import SignatureVerifier

from reports import Reports

router = APIRouter(prefix="/slack/demo")


class SignedCommand(BaseModel):
    """What Slack would post to /slack/command; the page posts it instead. The message comes back as report `inbox`."""

    body: str
    headers: dict[str, str]
    inbox: str


class Message(BaseModel):
    text: str


@router.post("")
def sign_command(request: Request) -> SignedCommand:
    secret = os.environ.get("SLACK_SIGNING_SECRET")
    if not secret:
        raise HTTPException(503, "SLACK_SIGNING_SECRET is not set: any made-up word does for the demo.")
    store: Reports = request.state.reports
    inbox = store.add().id
    response_url = str(request.url_for("receive_message", inbox=inbox))
    body = urlencode({"command": "/report", "text": "sales of last week", "response_url": response_url})
    timestamp = str(int(time.time()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body)
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": signature or "",
    }
    return SignedCommand(body=body, headers=headers, inbox=inbox)


@router.post("/{inbox}")
def receive_message(request: Request, inbox: str, message: Message) -> str:
    store: Reports = request.state.reports
    if not store.finish(inbox, message.text):
        raise HTTPException(404, "No such inbox.")
    return "ok"
