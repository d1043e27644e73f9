"""Home Assistant's stream component as an LL-HLS origin: homeassistant.py PORT SOURCE

Starts the component and nothing else of Home Assistant, lets it read SOURCE (what libav can open) and serves its own
views on 127.0.0.1:PORT. Prints the path of the multivariant playlist. Versions are in requirements-homeassistant.txt.
"""

import asyncio
import dataclasses
import sys
import tempfile

from aiohttp import web
from homeassistant.components import stream
from homeassistant.components.stream.core import Orientation
from homeassistant.core import HomeAssistant

SEGMENT_SECONDS = 2.0
PART_SECONDS = 0.5


@dataclasses.dataclass
class Settings:
    """What a camera's owner can set."""

    preload_stream: bool = True
    orientation: Orientation = Orientation.NO_TRANSFORM


class Http:
    """The one thing that views need of Home Assistant's HTTP component."""

    def __init__(self, hass, app):
        self.hass = hass
        self.app = app

    def register_view(self, view):
        view.register(self.hass, self.app, self.app.router)


async def main(port, source):
    hass = HomeAssistant(tempfile.mkdtemp())
    app = web.Application()
    app["hass"] = hass
    hass.http = Http(hass, app)
    config = {"ll_hls": True, "segment_duration": SEGMENT_SECONDS, "part_duration": PART_SECONDS}
    await stream.async_setup(hass, {stream.DOMAIN: config})
    hass.config.components.add(stream.DOMAIN)
    camera = stream.create_stream(hass, source, {}, Settings())
    camera.add_provider(stream.HLS_PROVIDER)
    await camera.start()
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(camera.endpoint_url(stream.HLS_PROVIDER), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
