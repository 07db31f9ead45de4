// The classic family: ssb-server 16 with the plugins that its own bin.js loads, minus everything that looks for
// peers by itself: a test says who connects, and when. `ebt: false` leaves EBT out; with a `port` it is a pub that
// listens there.
'use strict'
const path = require('path')
const pull = require('pull-stream')
const { MAIN_NETWORK, promise, Arrivals, padding, rows } = require('../shared')

const PLUGINS = ['ssb-private1', 'ssb-master', 'ssb-gossip', 'ssb-replicate', 'ssb-friends', 'ssb-blobs', 'ssb-invite']
const HOST = '127.0.0.1'

function start (dir, { ebt = true, port }) {
  const stack = require('ssb-server').createSsbServer()
  for (const plugin of ebt ? [...PLUGINS, 'ssb-ebt'] : PLUGINS) stack.use(require(plugin))
  return stack({
    path: dir,
    keys: require('ssb-keys').loadOrCreateSync(path.join(dir, 'secret')),
    caps: { shs: MAIN_NETWORK },
    allowPrivate: true,
    connections: { incoming: port ? { net: [{ scope: 'device', transform: 'shs', host: HOST, port }] } : {}, outgoing: { net: [{ transform: 'shs' }] } },
    friends: { hops: 2, dunbar: 150 },
    replicate: { hops: 2, legacy: true },
    timers: { handshake: 5000, inactivity: 600e3, ping: 300e3 },
    gossip: { connections: 0, seed: false, pub: false, local: false, friends: false, global: false },
    logging: { level: 'error' },
    local: false
  })
}

module.exports = async function (dir, options = {}) {
  const ssb = start(dir, options)
  const arrivals = new Arrivals(await promise(cb => ssb.getVectorClock(cb)))
  ssb.post(message => message && arrivals.add(message.key, message.value))
  const publish = async content => {
    const time = Date.now()
    const { key } = await promise(cb => ssb.publish(content, cb))
    return { key, time }
  }
  return {
    feed: ssb.id,
    close: () => promise(cb => ssb.close(true, cb)),
    commands: {
      ...arrivals.commands(),
      accept: code => promise(cb => ssb.invite.accept(code, cb)).then(() => true),
      connect: address => promise(cb => ssb.connect(address, cb)).then(() => true),
      publish,
      'publish-sized': (content, length) =>
        publish({ ...content, text: padding(content, length, ssb.id, arrivals.clock[ssb.id] + 1) }),
      'publish-private': (content, recps) => publish({ ...content, recps }),
      feed: id => promise(cb => pull(ssb.createHistoryStream({ id }), pull.collect(cb))).then(rows)
    }
  }
}
