// What both client families share: promises for callbacks, and who notices that a message has come.
'use strict'

const MAIN_NETWORK = '1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s='
const DEADLINE = 30e3 // a callback that never comes must not hang the test run

function promise (call) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the client did not call back')), DEADLINE)
    call((error, value) => {
      clearTimeout(timer)
      error ? reject(error) : resolve(value)
    })
  })
}

// The clock and the arrival time (ms since the epoch) of everything that reaches this client's log.
class Arrivals {
  constructor (clock) {
    this.clock = Object.assign({}, clock)
    this.last = {} // the key of what came last, by feed
    this.disordered = 0 // messages that were not the next one of their feed
    this.times = new Map()
    this.waiting = new Set()
  }

  add (key, { author, sequence }) {
    this.times.set(key, Date.now())
    this.last[author] = key
    if (sequence !== (this.clock[author] || 0) + 1) this.disordered++
    this.clock[author] = Math.max(this.clock[author] || 0, sequence)
    for (const check of this.waiting) check()
  }

  wait (probe, what) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer)
        this.waiting.delete(check)
        settle(value)
      }
      const check = () => probe() && finish(resolve, probe())
      const timer = setTimeout(() => finish(reject, new Error(`waited in vain for ${what()}`)), DEADLINE)
      this.waiting.add(check)
      check()
    })
  }

  commands () {
    return {
      // resolves to the sequence reached
      'wait-feed': (feed, sequence) => this.wait(
        () => this.clock[feed] >= sequence && this.clock[feed],
        () => `${feed} ${sequence}, have ${this.clock[feed] || 0}`),
      // everything so far: how many messages, how many of them out of turn
      arrived: () => ({ messages: this.times.size, disordered: this.disordered }),
      // by feed, how far it has come and with which message
      heads: () => Object.fromEntries(Object.keys(this.last).map(feed => [feed, [this.clock[feed], this.last[feed]]])),
      // resolves to the time of arrival
      'wait-message': key => this.wait(() => this.times.get(key), () => key)
    }
  }
}

// Text that brings the message of this content to exactly `length` characters as they are signed and counted.
function padding (content, length, author, sequence) {
  const sample = {
    previous: '%' + 'A'.repeat(43) + '=.sha256',
    sequence,
    author,
    timestamp: Date.now(),
    hash: 'sha256',
    content: Object.assign({}, content, { text: '' }),
    signature: 'A'.repeat(86) + '==.sig.ed25519'
  }
  return 'x'.repeat(length - JSON.stringify(sample, null, 2).length)
}

// A feed in order, each message as JSON text made here: the order of keys and the spelling of numbers count too.
function rows (messages) {
  return messages
    .sort((a, b) => a.value.sequence - b.value.sequence) // db2 answers in the order of its index
    .map(({ key, value }) => ({ key, json: JSON.stringify(value), length: JSON.stringify(value, null, 2).length }))
}

module.exports = { MAIN_NETWORK, promise, Arrivals, padding, rows }
