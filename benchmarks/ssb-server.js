// ssb-server 16 as its own `ssb-server start` puts it together, without what looks for peers in the local network and
// without web sockets. Prints {"id", "address", "invite"} when it is ready.
//
//   node ssb-server.js NODE_MODULES FOLDER HOST USES
'use strict'
const fs = require('fs')
const net = require('net')
const path = require('path')

const [modules, folder, host, uses] = process.argv.slice(2)
const load = name => require(path.join(modules, name))
const PLUGINS = [
  'private1', 'onion', 'unix-socket', 'no-auth', 'plugins', 'master', 'gossip', 'replicate', 'friends', 'blobs',
  'invite', 'logging', 'query', 'links', 'ebt', 'ooo'
]

function start (port) {
  const incoming = {
    net: [{ scope: ['device', 'local', 'public'], transform: 'shs', host, port }],
    unix: [{ scope: 'device', transform: 'noauth' }]
  }
  const config = load('ssb-config/inject')('benchmark', {
    path: folder,
    keys: load('ssb-keys').loadOrCreateSync(path.join(folder, 'secret')),
    connections: { incoming, outgoing: { net: [{ transform: 'shs' }] } },
    host,
    port,
    allowPrivate: true, // invite codes for 127.0.0.1
    local: false,
    friends: { hops: 2, dunbar: 150 }, // how far we replicate, too
    replicate: { hops: 2, legacy: true },
    gossip: { connections: 0, seed: false, pub: false, local: false, friends: false, global: false },
    timers: { handshake: 5000, inactivity: 600e3, ping: 300e3 },
    logging: { level: 'error' }
  })
  const stack = load('ssb-server').createSsbServer()
  for (const name of PLUGINS) stack.use(load(`ssb-${name}`))
  const server = stack(config)
  const key = server.id.slice(1, -'.ed25519'.length)
  const announce = () => {
    if (!server.ready()) return setTimeout(announce, 50) // it hangs up on everybody until its indexes are loaded
    server.invite.create({ uses: Number(uses) }, (error, invite) => {
      if (error) throw error
      process.stdout.write(JSON.stringify({ id: server.id, address: `net:${host}:${port}~shs:${key}`, invite }) + '\n')
    })
  }
  announce()
  process.on('SIGTERM', () => server.close(true, () => process.exit(0)))
}

console.log = console.info = console.warn = console.error // stdout is for the one line
console.trace = () => {}
fs.mkdirSync(folder, { recursive: true })
const probe = net.createServer().listen(0, host, () => { // ssb-server does not tell which free port it took
  const { port } = probe.address()
  probe.close(() => start(port))
})
