"""Services that take a function's response in one piece, and read it as a proxy result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from adapter.local.fronts.exchange import Exchange, Refusal, has_prelude
from adapter.local.fronts.head import MalformedError
from adapter.local.fronts.proxy_result import ResultForm, read
from adapter.local.invocation import MAX_PAYLOAD


@dataclass(frozen=True)
class Late:
    """After `limit` seconds without a whole response the caller gets the refusal, while the function goes on."""

    limit: float
    refusal: Refusal


@dataclass(frozen=True)
class Result:
    """A function's whole response; a streamed one may say that it has a prelude."""

    payload: bytes
    streamed: bool
    prelude: bool


@dataclass(frozen=True)
class Buffered:
    """How such a service takes the answer. `max_result` bounds the result, in bytes of JSON. With `empties` a streamed
    response with a prelude makes an empty reply; else it is malformed like any other that is no proxy result."""

    form: ResultForm
    max_result: int = MAX_PAYLOAD
    late: Late | None = None
    empties: bool = False

    async def __call__(self, exchange: Exchange) -> None:
        collecting = asyncio.create_task(collect(exchange))
        try:
            await asyncio.wait({collecting}, timeout=self.late.limit if self.late else None)
            if collecting.done():
                await self._reply(exchange, collecting.result())
            elif self.late:
                status = self.late.refusal.status
                exchange.error(f"no response within {self.late.limit:g} seconds; to the caller that is status {status}")
                await exchange.refuse(self.late.refusal)
                # What the function still sends is taken from it, and thrown away.
                await collecting
        finally:
            collecting.cancel()

    async def _reply(self, exchange: Exchange, result: Result | Refusal) -> None:
        if isinstance(result, Refusal):
            await exchange.refuse(result)
        elif result.prelude and self.empties:
            exchange.hint(
                "the function streamed a response with a prelude, and this function URL has InvokeMode BUFFERED, which "
                "does not read preludes: its caller gets status 200 and no content, here as on Lambda. Set InvokeMode "
                "RESPONSE_STREAM, or return {'statusCode': ..., ...} (StreamingAdapter: stream=())."
            )
            await exchange.reply.whole(200, [], b"")
            exchange.replied()
        elif result.prelude:
            await exchange.malformed(
                f"the function streamed a response with a prelude, which {exchange.service.title} cannot read; it is "
                "to return {'statusCode': ..., 'headers': ..., 'body': ...}"
            )
        elif len(result.payload) > self.max_result:
            await exchange.malformed(
                f"the function's result has {len(result.payload)} bytes, and {exchange.service.title} takes "
                f"{self.max_result}"
            )
        else:
            try:
                proxy = read(result.payload, self.form)
            except MalformedError as error:
                what = f"the function's result cannot be made a reply: {error}"
                if result.streamed:
                    what += f" ({exchange.service.title} reads as one JSON text what was streamed)"
                await exchange.malformed(what)
            else:
                await exchange.reply.whole(proxy.status, proxy.headers, proxy.body)
                exchange.replied()


async def collect(exchange: Exchange) -> Result | Refusal:
    response = await exchange.answer()
    if isinstance(response, Refusal):
        return response
    payload = bytearray()
    async for chunk in response:
        payload += chunk
    if response.error is not None:
        return exchange.service.refusals.failed
    return Result(bytes(payload), response.streaming, prelude=response.streaming and has_prelude(response))
