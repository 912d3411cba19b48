// Parse an AsyncAPI document with the official parser, and print what it found as JSON.
//
// node check.js FILE

const { Parser, fromFile } = require('@asyncapi/parser')

async function main(path) {
  const { document, diagnostics } = await fromFile(new Parser(), path).parse()
  const messages = Object.fromEntries(
    (document?.channels().all() ?? []).map((channel) => [
      channel.address(),
      channel.messages().all().map((message) => message.payload().title()),
    ]),
  )
  console.log(JSON.stringify({ diagnostics, messages }))
}

main(process.argv[2])
