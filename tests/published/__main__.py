"""Write the schema files and the generated parts of docs/events.md again."""

from schemas import avro, contract
from tests.published import AVRO_FILES, FILES, document

for directory, files in ((FILES, contract.files()), (AVRO_FILES, avro.files())):
    for name, content in files.items():
        (directory / name).write_bytes(content)
document.DOCUMENT.write_text(document.filled(document.DOCUMENT.read_text()))
