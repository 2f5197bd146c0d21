"""Small notebooks, as the tests of publishing write them."""

import base64
import io
import re
from urllib.parse import unquote

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="60"><rect width="{0}" height="60"/></svg>'
KINDS = {"html": "text/html", "md": "text/markdown", "plain": "text/plain", "svg": "image/svg+xml"}
KINDS |= {"latex": "text/latex", "jpeg": "image/jpeg"}


def picture(kind="PNG", color="red"):
    """The bytes of a small image."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, kind)
    return file.getvalue()


def encoded(content):
    return base64.b64encode(content).decode()


def result(**data):
    """A cell's output, e.g. `result(html=...)`."""
    return new_output("execute_result", {KINDS[kind]: text for kind, text in data.items()})


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def code(source, *outputs, **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def text(markdown, **attachments):
    return new_markdown_cell(markdown, **({"attachments": attachments} if attachments else {}))


def write(path, *cells):
    """A notebook with these cells, below a title of its name."""
    nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {path.stem}"), *cells]), path)
    return path


def links(page):
    """What a page's article links to and shows: pairs of address and anchor, as a browser reads them."""
    article = page.partition("<article")[2].partition("</article>")[0]
    found = re.findall(r'(?:href|src)="([^"]*)"', article)
    pairs = (address.replace("&amp;", "&").partition("#") for address in found)
    return [(unquote(address), unquote(anchor)) for address, _, anchor in pairs]
