"""python -m published: write the schema files and the generated parts of docs/events.md again."""

from published import FILES, document
from schemas import contract

for name, content in contract.files().items():
    (FILES / name).write_bytes(content)
document.DOCUMENT.write_text(document.filled(document.DOCUMENT.read_text()))
