// Parse AsyncAPI documents with the official parser, and print what it found in each as JSON.
//
// node check.js FILE...

const { Parser, fromFile } = require('@asyncapi/parser')

async function check(path) {
  const { document, diagnostics } = await fromFile(new Parser(), path).parse()
  const messages = Object.fromEntries(
    (document?.channels().all() ?? []).map((channel) => [
      channel.address(),
      channel.messages().all().map((message) => message.payload().title()),
    ]),
  )
  return { diagnostics, messages }
}

Promise.all(process.argv.slice(2).map(check)).then((found) => console.log(JSON.stringify(found)))
