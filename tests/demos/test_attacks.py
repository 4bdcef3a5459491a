"""What visitors and files try: refused or served, never a crash, a stall, or a file from outside."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import fgclip2
from demos.limits import REQUEST_BYTES, UPLOAD_BYTES, WAITING
from demos.page import build_demo, serve
from fgclip2 import Index
from fgclip2.errors import Fgclip2Error
from fgclip2.search.entries import Entry
from fgclip2.search.store import Store

SECRET = b"the secret of this machine"


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


@pytest.fixture
def alive(client: Client) -> Iterator[None]:
    """After whatever was tried, the next visitor is served."""
    yield
    gallery, *_ = client.predict("a dog", "", "", 2, "en", api_name="/search")
    assert len(gallery) == 2


def highlight(client: Client, file: Path) -> Any:
    return client.predict(handle_file(file), "狗", "heat", 0.5, 0.5, "auto", "en", api_name="/highlight")


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, with data for one row of nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_names_that_lead_out_of_the_collection(
    served: Callable[[fgclip2.FGCLIP2, Index], str],
    embedded: fgclip2.FGCLIP2,
    index: Index,
    tmp_path: Path,
    cache: Path,
) -> None:
    """Metadata is data: an index from elsewhere names files that it has no business with."""
    root = tmp_path / "root"
    root.mkdir()
    secret = tmp_path / "secret.png"
    Image.new("RGB", (320, 320), (1, 2, 3)).save(secret)
    (root / "link.png").symlink_to(secret)
    Image.new("RGB", (320, 320)).save(root / "<img src=x onerror=alert(1)>.png")
    evil = ["../secret.png", str(secret), "link.png", "a/../../secret.png", "<img src=x onerror=alert(1)>.png"]
    given, rows = index.store, np.arange(len(evil))
    store = Store.create(
        tmp_path / "evil.idx", model_hash=embedded.hash, model_name="tiny", dimension=embedded.width, root=root,
        settings=given.manifest.settings,
    )  # fmt: skip
    regions = [np.arange(given.offsets[row], given.offsets[row + 1]) for row in rows]
    store.append(
        [
            Entry(
                name, str(row) * 64, (320, 320), given.vectors("pictures", np.array([row]))[0],
                given.vectors("regions", regions[row]), given.boxes(regions[row]),
            )
            for row, name in enumerate(evil)
        ]
    )  # fmt: skip
    client = Client(served(embedded, Index.open(tmp_path / "evil.idx", embedded)), verbose=False)
    gallery, *_ = client.predict("a dog", "", "", 10, "en", api_name="/search")
    assert len(gallery) == 5
    refused = [item for item in gallery if "cannot be shown" in item["caption"]]
    assert len(refused) == 4
    for item in refused:
        assert len(np.unique(np.asarray(Image.open(item["image"]).convert("L")))) == 1
    for number in range(1, 6):
        assert client.predict(number, "en", api_name="/pick_search") == number
        _, facts = client.predict("en", api_name="/show_search")
        assert str(tmp_path) not in facts["problem"]  # where the collection lies is not for visitors
        said = "changed since" if facts["name"].startswith("<") else "does not stay in|leads out of"
        assert any(word in facts["problem"] for word in said.split("|"))
        if not facts["name"].startswith("<"):
            with pytest.raises(AppError, match=said) as caught:
                client.predict("en", api_name="/take")
            assert str(tmp_path) not in str(caught.value)
    stored = [file for file in cache.rglob("*") if file.is_file()]
    assert not any(file.read_bytes() == secret.read_bytes() for file in stored)


@pytest.mark.usefixtures("alive")
def test_the_file_route_serves_nothing_else(address: str, tmp_path: Path, index: Index, cache: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(SECRET)
    project = Path(__file__).resolve().parents[2]
    wanted = ["/etc/passwd", tmp_path / "secret.txt", index.root / "images" / "0000.png", project / "README.md"]
    wanted += [f"{cache}/../../../../../../etc/passwd", "../../../../etc/passwd", "README.md", "demos/app.py"]
    with httpx.Client(base_url=address) as visitor:
        for path in wanted:
            for route in (
                f"/gradio_api/file={path}",
                f"/file={path}",
                f"/gradio_api/file={path}".replace("..", "%2e%2e"),
            ):
                answer = visitor.get(route)
                assert answer.status_code in (400, 403, 404), route
                assert SECRET not in answer.content
        for answer in (
            visitor.get("/static/../../../../etc/passwd"),
            visitor.get("/assets/%2e%2e/%2e%2e/pyproject.toml"),
        ):
            assert b"root:" not in answer.content
            assert b"[project]" not in answer.content


@pytest.mark.usefixtures("alive")
def test_only_uploaded_files_are_read(address: str, index: Index) -> None:
    """A request may name any file; only those that were uploaded are opened."""
    with httpx.Client(base_url=address, timeout=30) as visitor:
        for path in ("/etc/passwd", str(index.root / "images" / "0000.png"), "demos/app.py", ""):
            given = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
            answer = visitor.post("/gradio_api/call/search_picture", json={"data": [given, "", "", 5, "en"]})
            told = visitor.get(f"/gradio_api/call/search_picture/{answer.json()['event_id']}").text
            assert "event: error" in told
            assert "event: complete" not in told


@pytest.mark.usefixtures("alive")
def test_no_address_is_fetched(address: str) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        target = f"http://127.0.0.1:{other.server_port}/a.png"
        meta = {"_type": "gradio.FileData"}
        with httpx.Client(base_url=address) as visitor:
            for route in (
                f"/gradio_api/file={target}",
                f"/gradio_api/proxy={target}",
                f"/gradio_api/file/{target}",
                f"/file/{target}",
                f"/gradio_api/file=%68ttp:{target[5:]}",
            ):
                answer = visitor.get(route)
                assert (answer.status_code, answer.text) == (403, "addresses are not fetched"), route  # by the guard
            for field, name in (({"path": target, "meta": meta}, "search_picture"), ([{"path": target}], "search")):
                body = {"data": [field, "", "", 5, "en"], "fn_index": 0, "session_hash": "a"}
                routes = [f"/gradio_api/run/{name}", f"/gradio_api/call/{name}", "/gradio_api/queue/join"]
                # With fn_index Gradio takes any name, also that of the one route whose body the guard lets through.
                routes += ["/gradio_api/run/upload", "/gradio_api/api/upload", "/gradio_api/run/upload/"]
                for route in routes:
                    assert visitor.post(route, json=body).status_code == 403, route
        other.shutdown()
    assert asked == []


@pytest.mark.usefixtures("alive")
def test_pictures_that_are_none(client: Client, tmp_path: Path) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    icon = io.BytesIO()
    Image.new("RGB", (64, 64)).save(icon, "ICO")  # whose reader would decode before the size is judged
    tried = {
        "icon.ico": (icon.getvalue(), "not a picture"),
        "svg.png": (svg, "not a picture"),
        "page.png": (b"<!doctype html><script>alert(1)</script>", "not a picture"),
        "drawing.svg": (svg, "not a picture"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "not a picture"),
        "empty.png": (b"\0", "not a picture"),
        "cut.png": (buffer.getvalue()[:-30], "damaged or cut short"),
        "bomb.png": (png_of(60_000, 60_000), "before decoding"),
        "large.png": (png_of(7_000, 7_000), "49,000,000 pixels, over the limit"),
    }
    for name, (data, said) in tried.items():
        file = tmp_path / name
        file.write_bytes(data)
        with pytest.raises(AppError, match=said) as caught:
            highlight(client, file)
        assert "at most 40 million pixels" in str(caught.value)
        assert "<" not in str(caught.value)


@pytest.mark.usefixtures("alive")
def test_many_uploads_do_not_fill_the_disk(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is limited as a whole; when it has room again uploads are taken again."""
    route = f"{address}gradio_api/upload"

    def upload(content: bytes) -> httpx.Response:
        return httpx.post(route, files={"files": ("图.bin", content)})

    assert upload(b"a" * 4000).status_code == 200
    held = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    assert held >= 4000
    monkeypatch.setattr("demos.guard.KEPT_BYTES", held - 1)
    refused = upload(b"b" * 4000)
    assert refused.status_code == 507
    assert "try again later" in refused.text
    monkeypatch.setattr("demos.guard.KEPT_BYTES", 10 * held)
    assert upload(b"c" * 4000).status_code == 200


@pytest.mark.usefixtures("alive")
def test_uploads_that_are_too_large(address: str, cache: Path) -> None:
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'

    def parts(size: int, files: int = 1) -> Iterator[bytes]:
        for _ in range(files):
            yield start
            for _ in range(size >> 20):
                yield bytes(1 << 20)
            yield b"\r\n"
        yield b"--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    route = f"{address}gradio_api/upload"
    assert httpx.post(route, content=parts(1 << 20), headers=headers).status_code == 200
    sizes = [file.stat().st_size for file in cache.rglob("*") if file.is_file()]
    assert (1 << 20) in sizes
    for size, files in ((UPLOAD_BYTES + (1 << 20), 1), (200 << 20, 1), (15 << 20, 2)):
        length = str(sum(map(len, parts(size, files))))
        for announced in ({}, {"content-length": length}):
            try:
                answer = httpx.post(route, content=parts(size, files), headers={**headers, **announced}, timeout=60)
            except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                assert size > UPLOAD_BYTES  # the connection was closed on it
                continue
            assert answer.status_code == 413
    kept = [file for file in cache.rglob("*") if file.is_file() and file.stat().st_size > 1 << 20]
    assert kept == []
    body = {"data": ["a" * (2 * REQUEST_BYTES), "", "", 5, "en"]}
    assert httpx.post(f"{address}gradio_api/call/search", json=body).status_code == 413


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("query", ["a" * 10_000, "狗" * 10_000, "<script>alert(1)</script>" * 400])
def test_a_query_of_ten_thousand_characters(client: Client, query: str) -> None:
    with pytest.raises(AppError, match="10,000 characters are too many; give at most 2,000"):
        client.predict(query, "", "", 5, "en", api_name="/search")
    with pytest.raises(AppError, match="10,000 个字符太多"):
        client.predict("a", "", query, 5, "zh", api_name="/search")
    with pytest.raises(AppError, match="10,000 characters"):
        client.predict("a", query, "", 5, "en", api_name="/search")
    gallery, *_ = client.predict(query[:2_000], "", "", 5, "en", api_name="/search")
    assert len(gallery) == 5


@pytest.mark.usefixtures("alive")
def test_values_that_no_component_gives(client: Client, address: str) -> None:
    with httpx.Client(base_url=address) as visitor:
        for data in (
            [None] * 5,
            [[], {}, {}, "x", 3],
            [1, 2, 3, 4, "xx"],
            ["a", "", "", 1e308, "en"],
            ["a"],
            "a",
            None,
        ):
            answer = visitor.post("/gradio_api/call/search", json={"data": data})
            assert answer.status_code < 600
            if answer.status_code == 200:
                told = visitor.get(f"/gradio_api/call/search/{answer.json()['event_id']}", timeout=30).text
                assert "event: error" in told
        assert visitor.post("/gradio_api/call/search", content=b"[" * 100_000).status_code in (400, 422, 500)
        assert visitor.post("/gradio_api/call/nothing", json={"data": []}).status_code in (400, 404, 422, 500)
    text = "' OR 1=1 --; ${jndi:ldap://x} {language} %s \u202e \U0001f600"
    assert len(client.predict(text, "", "", 3, "en", api_name="/search")[0]) == 3


def test_fifty_at_a_time(address: str) -> None:
    """Those that the queue has room for are served, the others are told that it is full."""

    def ask(number: int) -> str:
        with httpx.Client(base_url=address, timeout=60) as visitor:
            answer = visitor.post("/gradio_api/call/search", json={"data": [f"dog {number}", "", "", 3, "en"]})
            if answer.status_code != 200:
                return answer.text
            told = visitor.get(f"/gradio_api/call/search/{answer.json()['event_id']}").text
        return "served" if "event: complete" in told else told

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    served = answers.count("served")
    assert served >= min(50, WAITING)
    assert all("full" in answer.lower() for answer in answers if answer != "served")


def test_a_queue_that_is_full_says_so(embedded: fgclip2.FGCLIP2, index: Index) -> None:
    """With the model held, no more than ``WAITING`` wait."""
    held, begun = threading.Event(), threading.Event()

    class Slow(Index):
        def search(self, *arguments: Any, **named: Any) -> Any:
            begun.set()
            held.wait(30)
            return super().search(*arguments, **named)

    slow = Slow(index.store, index.model, index.root, index._pictures, index._regions)
    demo = build_demo(embedded, slow)
    address = serve(demo, port=None)
    try:
        with httpx.Client(base_url=address, timeout=60) as visitor:
            body = {"data": ["a dog", "", "", 3, "en"]}
            first = visitor.post("/gradio_api/call/search", json=body)
            assert begun.wait(30)
            answers = [visitor.post("/gradio_api/call/search", json=body) for _ in range(50)]
            accepted = [answer for answer in answers if answer.status_code == 200]
            assert len(accepted) == WAITING
            assert all("full" in answer.text.lower() for answer in answers if answer.status_code != 200)
            # What does not need the model is answered meanwhile.
            assert visitor.get("/config").status_code == 200
            held.set()
            for answer in (first, *accepted):
                told = visitor.get(f"/gradio_api/call/search/{answer.json()['event_id']}").text
                assert "event: complete" in told
    finally:
        held.set()
        demo.close()


def test_the_server_is_for_this_machine(embedded: fgclip2.FGCLIP2, index: Index, address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert "default-src 'self'" in httpx.get(address).headers["content-security-policy"]
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(Fgclip2Error, match=f"127.0.0.1:{port} cannot be listened on"):
        serve(build_demo(embedded, index), port=port)
