// A peer that keeps feeds in memory, its own and those of people it makes up, and speaks EBT by hand: what it says and
// when is the test's to decide, and what it hears is counted. It may call everything that `raw` may.
'use strict'
const path = require('path')
const pull = require('pull-stream')
const pushable = require('pull-pushable')
const ssbKeys = require('ssb-keys')
const validate = require('ssb-validate')
const raw = require('./raw')
const { promise, Arrivals } = require('../shared')

function noteOf (sequence, wantsMessages) {
  return sequence * 2 + (wantsMessages ? 0 : 1)
}

// All feeds that this peer holds: messages by feed, and the keys of those that it can write.
class Library {
  constructor () {
    this.keys = new Map()
    this.messages = new Map()
  }

  length (id) {
    return (this.messages.get(id) || []).length
  }

  person (keys) {
    this.keys.set(keys.id, keys)
    this.messages.set(keys.id, [])
    return keys.id
  }

  write (id, content) {
    const messages = this.messages.get(id)
    const last = messages[messages.length - 1]
    const state = last && { id: validate.id(last), sequence: last.sequence, timestamp: last.timestamp, queue: [] }
    const timestamp = Math.max(Date.now(), last ? last.timestamp + 0.01 : 0)
    messages.push(validate.create(state, this.keys.get(id), null, content, timestamp))
    return validate.id(messages[messages.length - 1])
  }

  // true when the message is the next one of its feed
  add (message) {
    const messages = this.messages.get(message.author) || []
    this.messages.set(message.author, messages)
    if (message.sequence !== messages.length + 1) return false
    messages.push(message)
    return true
  }
}

// One connection with EBT opened. It offers all that the library holds, or says exactly `notes`; asks for the feeds in
// `ask`; keeps back the messages of the feeds in `withhold` until they are released.
class Session {
  constructor (connection, library, arrivals, { notes, ask = [], withhold = [] }) {
    this.connection = connection
    this.library = library
    this.arrivals = arrivals
    this.opening = { notes, ask }
    this.withheld = new Set(withhold)
    this.source = pushable()
    this.clock = {} // the last notes of the other side
    this.sent = new Map() // feeds that it wants the messages of -> the last sequence sent
    this.counts = { frames: 0, notes: 0, messages: 0, repeated: 0, sent: 0, first: null }
    this.ended = new Promise(resolve => { this.end = resolve })
    const duplex = connection.ebt.replicate({ version: 3 }, () => {})
    pull(this.source, duplex.sink)
    pull(duplex.source, pull.drain(frame => this.receive(frame), error => {
      this.end((error && error.message) || 'ended')
    }))
  }

  receive (frame) {
    if (typeof frame.author === 'string' && frame.content) return this.receiveMessage(frame)
    this.counts.frames++
    this.counts.notes += Object.keys(frame).length
    Object.assign(this.clock, frame)
    if (!this.counts.first) {
      this.counts.first = { notes: Object.keys(frame).length, bytes: JSON.stringify(frame).length }
      this.source.push(this.greeting())
    }
    for (const [id, note] of Object.entries(frame)) {
      if (note >= 0 && note % 2 === 0) this.sent.set(id, note >> 1)
      else this.sent.delete(id)
      this.deliver(id)
    }
    this.arrivals.check()
  }

  receiveMessage (message) {
    this.counts.messages++
    if (this.library.add(message)) this.arrivals.add(validate.id(message), message)
    else this.counts.repeated++
  }

  greeting () {
    if (this.opening.notes) return this.opening.notes
    const ids = [...this.library.messages.keys(), ...this.opening.ask]
    return Object.fromEntries(ids.map(id => [id, noteOf(this.library.length(id), true)]))
  }

  deliver (id) {
    if (!this.sent.has(id) || this.withheld.has(id)) return
    for (const message of (this.library.messages.get(id) || []).slice(this.sent.get(id))) {
      this.source.push(message)
      this.counts.sent++
      this.sent.set(id, message.sequence)
    }
  }

  release (id) {
    this.withheld.delete(id)
    this.deliver(id)
  }
}

module.exports = async function (dir) {
  const bare = await raw(dir)
  const keys = ssbKeys.loadOrCreateSync(path.join(dir, 'secret'))
  const library = new Library()
  const arrivals = new Arrivals({})
  const sessions = []
  const aside = []
  const me = library.person(keys)
  arrivals.check = () => { for (const check of arrivals.waiting) check() }

  function publish (content, author = me) {
    const key = library.write(author, content)
    for (const session of sessions) session.deliver(author)
    return { key }
  }

  function people (count, contents) {
    return Array.from({ length: count }, () => {
      const id = library.person(ssbKeys.generate())
      for (const content of contents) library.write(id, content)
      return id
    })
  }

  // takes back what was written after this sequence, and writes something else instead: the second branch of a fork
  function branch (sequence, contents) {
    const first = library.messages.get(me)
    library.messages.set(me, first.slice(0, sequence))
    for (const content of contents) library.write(me, content)
    return first.slice(sequence).map(validate.id)
  }

  async function replicate (address, options = {}) {
    sessions.push(new Session(await raw.dial(keys, address), library, arrivals, options))
    return sessions.length - 1
  }

  return {
    feed: me,
    close: async () => {},
    commands: {
      ...bare.commands,
      ...arrivals.commands(), // what arrived, instead of what the pub said of itself
      publish,
      'publish-all': contents => contents.map(content => publish(content).key),
      people,
      branch,
      'set-aside': () => aside.push([...library.messages.get(me)]) - 1, // a copy of one's own feed
      'take-back': number => library.messages.set(me, aside[number]) && true,
      feed: id => (library.messages.get(id) || []).map(message => ({ key: validate.id(message) })),
      replicate,
      say: (number, notes) => sessions[number].source.push(notes),
      release: (number, id) => sessions[number].release(id),
      counts: number => sessions[number].counts,
      note: (number, id) => sessions[number].clock[id],
      // resolves to the last note of the other side that is not -1
      'wait-note': (number, id) => arrivals.wait(
        () => sessions[number].clock[id] >= 0 && sessions[number].clock[id] + 1,
        () => `a note of ${id}`).then(found => found - 1),
      'wait-end': number => sessions[number].ended, // resolves to the reason why EBT was ended
      leave: number => promise(cb => sessions[number].connection.close(true, cb)).then(() => true)
    }
  }
}
