import asyncio

from mangum import Mangum

from app import app

asyncio.set_event_loop(asyncio.new_event_loop())
handler = Mangum(app, lifespan="on")
without_lifespan = Mangum(app, lifespan="off")
