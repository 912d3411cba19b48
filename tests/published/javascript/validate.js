// Validate JSON texts with Ajv, as a sender in JavaScript does.
//
// node validate.js SCHEMA < texts, as a JSON array; prints an array of booleans

const { readFileSync } = require('fs')
const { Ajv2020 } = require('ajv/dist/2020')

const schema = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const valid = new Ajv2020({ strict: false, validateFormats: false }).compile(schema)
const texts = JSON.parse(readFileSync(0, 'utf8'))
console.log(JSON.stringify(texts.map((text) => valid(JSON.parse(text)))))
