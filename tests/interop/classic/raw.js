// A peer without a database: single calls that a well-behaved client never makes. The transport, the secret
// handshake and muxrpc are those of ssb-client.
'use strict'
const path = require('path')
const pull = require('pull-stream')
const pushable = require('pull-pushable')
const ssbKeys = require('ssb-keys')
const connectTo = require('ssb-client/client')
const { parseInvite, isLegacyInvite, parseAddress } = require('ssb-ref')
const { MAIN_NETWORK, promise, Arrivals } = require('../shared')

const MANIFEST = { invite: { use: 'async' }, ebt: { replicate: 'duplex' }, createHistoryStream: 'source' }

function dial (keys, remote) {
  const caps = { shs: MAIN_NETWORK }
  return promise(cb => connectTo({ keys, remote, caps, config: { caps, timers: { handshake: 5000 } }, manifest: MANIFEST }, cb))
}

// the address inside a code names the key of the guest: the transport dials with it instead of ours
function guestAddress (code) {
  if (!isLegacyInvite(code)) return parseInvite(code).remote
  const [address, seed] = code.split('~')
  const { host, port, key } = parseAddress(address)
  return `net:${host}:${port}~shs:${key.slice(1, -8)}:${seed}`
}

// EBT by hand: answers the pub's first frame with these notes, and hands over every frame
async function sayNotes (keys, address, notes, take, done = () => {}) {
  const connection = await dial(keys, address)
  const source = pushable()
  const duplex = connection.ebt.replicate({ version: 3 }, () => {})
  let isFirst = true
  pull(source, duplex.sink)
  pull(duplex.source, pull.drain(frame => {
    if (isFirst) source.push(notes)
    isFirst = false
    take(frame)
  }, done))
}

function outcome (call) {
  return promise(call).then(result => ({ result }), error => ({ error: error.message }))
}

module.exports = async function (dir) {
  const keys = ssbKeys.loadOrCreateSync(path.join(dir, 'secret'))
  const guests = []
  const notes = new Arrivals({})

  // one connection under the key of the code; stays open for `use`
  async function guest (code) {
    guests.push(await dial(true, guestAddress(code)))
    return guests.length - 1
  }

  // every call leaves in the same turn of the event loop
  function use (calls) {
    return Promise.all(calls.map(([guest, argument]) => outcome(cb => guests[guest].invite.use(argument, cb))))
  }

  async function redeem (code, argument) {
    const number = await guest(code)
    const [answer] = await use([[number, argument]])
    guests[number].close(() => {})
    return answer
  }

  // tells the pub that we know of `feed`, have nothing, and want to hear of its head only
  async function watch (address, feed) {
    await sayNotes(keys, address, { [feed]: 1 }, frame => {
      for (const [author, note] of Object.entries(frame)) {
        if (author[0] === '@' && note >= 0) notes.add(`${author} ${note >> 1}`, { author, sequence: note >> 1 })
      }
    })
    return true
  }

  return {
    feed: keys.id,
    close: async () => {},
    commands: {
      ...notes.commands(), // wait-feed: until the pub's note for the feed says so
      guest,
      use,
      redeem,
      watch
    }
  }
}

module.exports.dial = dial
module.exports.sayNotes = sayNotes
