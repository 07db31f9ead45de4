// The db2 family: the plugins that Manyverse is made of, minus everything that looks for peers by itself: a test
// says who connects, and when.
'use strict'
const path = require('path')
const pull = require('pull-stream')
const { MAIN_NETWORK, promise, Arrivals, padding, rows } = require('../shared')

const PLUGINS = [
  'ssb-db2', 'ssb-db2/compat/db', 'ssb-db2/compat/history-stream', 'ssb-db2/compat/feedstate', 'ssb-db2/compat/ebt',
  'ssb-friends', 'ssb-conn', 'ssb-ebt', 'ssb-replication-scheduler', 'ssb-blobs', 'ssb-invite-client'
]

const SETTLING = 200 // ms from the graph to the requests that the scheduler derives from it

function start (dir) {
  const stack = require('secret-stack')({ caps: { shs: MAIN_NETWORK } })
  for (const plugin of PLUGINS) stack.use(require(plugin))
  return stack({
    path: dir,
    keys: require('ssb-keys').loadOrCreateSync(path.join(dir, 'secret')),
    caps: { shs: MAIN_NETWORK },
    connections: { incoming: {}, outgoing: { net: [{ transform: 'shs' }] } },
    friends: { hops: 2 },
    conn: { autostart: false },
    replicationScheduler: { autostart: true },
    timers: { handshake: 5000, inactivity: 600e3, ping: 300e3 }
  })
}

module.exports = async function (dir) {
  const ssb = start(dir)
  const arrivals = new Arrivals(await promise(cb => ssb.getVectorClock(cb)))
  ssb.db.onMsgAdded(({ kvt }) => arrivals.add(kvt.key, kvt.value))
  const create = async options => {
    const time = Date.now()
    const { key } = await promise(cb => ssb.db.create({ keys: ssb.config.keys, ...options }, cb))
    return { key, time }
  }
  const connect = async address => {
    // A client that is asked about feeds before it knows whom it follows says that it wants none of them, and does not
    // take that back. The application has read its graph long before it finds a network.
    await promise(cb => ssb.friends.hops(cb))
    await new Promise(resolve => setTimeout(resolve, SETTLING))
    // after a redemption the client is still connected under the key of the code
    for (const [open] of ssb.conn.hub().entries()) await promise(cb => ssb.conn.disconnect(open, cb))
    await promise(cb => ssb.conn.connect(address, { type: 'pub' }, cb))
    return true
  }
  return {
    feed: ssb.id,
    close: () => promise(cb => ssb.close(true, cb)),
    commands: {
      ...arrivals.commands(),
      accept: code => promise(cb => ssb.invite.accept(code, cb)).then(() => true),
      connect,
      publish: content => create({ content }),
      'publish-sized': (content, length) =>
        create({ content: { ...content, text: padding(content, length, ssb.id, arrivals.clock[ssb.id] + 1) } }),
      'publish-private': (content, recps) => create({ content: { ...content, recps }, recps, encryptionFormat: 'box' }),
      feed: id => promise(cb => pull(ssb.createHistoryStream({ id }), pull.collect(cb))).then(rows)
    }
  }
}
