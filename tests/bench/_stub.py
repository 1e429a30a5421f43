"""A server that answers every trace at once, with one result that it holds: what a client needs by itself.

Started by ``edif bench trace`` as a process of its own: ``python _stub.py PORT FILE``; the file holds the result.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, WebSocket
from starlette.websockets import WebSocketDisconnect

from edif_backend.gateway import torchfile
from edif_protocol.wire import Response, State

app = FastAPI()
sessions: dict[str, WebSocket] = {}


@app.websocket("/subscribe")
async def subscribe(socket: WebSocket) -> None:
    """Open a session."""
    await socket.accept()
    id = uuid.uuid4().hex
    sessions[id] = socket
    await socket.send_json({"session_id": id, "envoys": True})
    try:
        while True:
            await socket.receive_bytes()
    except (WebSocketDisconnect, KeyError):
        del sessions[id]


@app.post("/request")
async def request(request: Request) -> Response:
    """Take a trace and send the result, unread."""
    form = await request.form()
    id = uuid.uuid4().hex
    socket = next(socket for session, socket in sessions.items() if session in str(form["data"]))
    record = {"id": id, "status": State.COMPLETED.value, "description": "Done.", "data": app.state.result, "meta": {}}
    await socket.send_bytes(torchfile.dumps(record))
    return Response(id=id, status=State.RECEIVED)


if __name__ == "__main__":
    app.state.result = Path(sys.argv[2]).read_bytes()
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", ws_max_size=1 << 26)
