"""Write the schema files and the generated parts of docs/events.md again."""

from schemas import contract
from tests.published import FILES, document

for name, content in contract.files().items():
    (FILES / name).write_bytes(content)
document.DOCUMENT.write_text(document.filled(document.DOCUMENT.read_text()))
