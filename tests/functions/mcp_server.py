"""A server of the Model Context Protocol by the official SDK, whose tools report their progress, and leave work."""

import asyncio
import os

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from adapter import StreamingAdapter, wait_until
from record import record

server = MCPServer("Steps")


@server.tool()
async def climb(steps: int, gate: int, ctx: Context) -> int:
    """Each next step waits for a line from the port `gate` of this machine; returns the process's id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate)
    for step in range(steps):
        await ctx.report_progress(step, steps)
        await reader.readline()
    writer.close()
    return os.getpid()


async def work() -> None:
    await asyncio.to_thread(record, "work")


@server.tool()
async def start_work() -> str:
    wait_until(work())
    return "started"


# Sessions are in the lifespan's task group. Without streams nothing else is left behind, to be waited for or not.
sessions = os.environ.get("SESSIONS", "")
app = server.streamable_http_app(
    stateless_http=not sessions, json_response=sessions == "without streams", host="0.0.0.0"
)
handler = StreamingAdapter(app)
