// One Scuttlebutt client of a real family, driven by a test: a command per line on stdin, an answer per line on
// stdout, both JSON.
//
//   > {"id": 1, "command": "accept", "args": ["127.0.0.1:8008:@…"]}
//   < {"id": 1, "result": true}        or        {"id": 1, "error": {"name": "Error", "message": "…"}}
//
// The first line on stdout is {"feed": "@…"}: the client is up. End of stdin closes it. What the stacks print
// themselves goes to stderr.
'use strict'
const fs = require('fs')
const readline = require('readline')
const { parseArgs } = require('util')

console.log = console.info = console.debug = console.error
console.trace = () => {} // the classic stack traces every refused call

const { values: options } = parseArgs({
  options: { kind: { type: 'string' }, dir: { type: 'string' }, port: { type: 'string' } }
})
const KINDS = {
  classic: dir => require('./classic/client')(dir),
  legacy: dir => require('./classic/client')(dir, { ebt: false }), // a client from before EBT
  server: dir => require('./classic/client')(dir, { port: Number(options.port) }), // a pub: ssb-server as it was meant
  db2: dir => require('./db2/client')(dir),
  raw: dir => require('./classic/raw')(dir),
  crowd: dir => require('./classic/crowd')(dir),
  reader: dir => require('./classic/reader')(dir)
}

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

function describe (error) {
  const messages = [] // db2 wraps: the pub's own words are in the innermost cause
  for (let e = error; e; e = e.cause) messages.push(String(e.message || e))
  return { name: error.name || 'Error', message: messages.join(': ') }
}

async function answer (client, { id, command, args }) {
  try {
    if (!client.commands[command]) throw new Error(`this client has no command ${command}`)
    const result = await client.commands[command](...args)
    say({ id, result: result === undefined ? null : result })
  } catch (error) {
    say({ id, error: describe(error) })
  }
}

async function main () {
  fs.mkdirSync(options.dir, { recursive: true })
  const client = await KINDS[options.kind](options.dir)
  say({ feed: client.feed })
  for await (const line of readline.createInterface({ input: process.stdin })) answer(client, JSON.parse(line))
  await client.close()
  process.exit(0)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
