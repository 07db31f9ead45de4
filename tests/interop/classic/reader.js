// A peer that fetches what it is told to and keeps nothing of it: only how far each feed has come and with which message.
// A message that does not continue its feed (the next sequence, on top of the message before) is counted as disordered.
'use strict'
const path = require('path')
const pull = require('pull-stream')
const ssbKeys = require('ssb-keys')
const validate = require('ssb-validate')
const { dial, sayNotes } = require('./raw')

const NOTHING_YET = 0 // the note for: send me all of it

class Chains {
  constructor () {
    this.heads = {}
    this.messages = 0
    this.disordered = 0
  }

  add (message) {
    const [sequence, id] = this.heads[message.author] || [0, null]
    this.messages++
    if (message.sequence === sequence + 1 && message.previous === id) {
      this.heads[message.author] = [message.sequence, validate.id(message)]
    } else {
      this.disordered++
    }
  }
}

module.exports = async function (dir) {
  const keys = ssbKeys.loadOrCreateSync(path.join(dir, 'secret'))
  const chains = new Chains()
  let error = null

  function finish (reason) {
    error = reason && reason !== true ? reason : error
  }

  async function fetchByEbt (address, feeds) {
    await sayNotes(keys, address, Object.fromEntries(feeds.map(feed => [feed, NOTHING_YET])), frame => {
      if (typeof frame.author === 'string' && frame.content) chains.add(frame)
    }, finish)
  }

  async function fetchByHistory (address, feeds) {
    const connection = await dial(keys, address)
    for (const id of feeds) {
      pull(connection.createHistoryStream({ id, keys: false }), pull.drain(message => chains.add(message), finish))
    }
  }

  return {
    feed: keys.id,
    close: async () => {},
    commands: {
      'fetch-ebt': fetchByEbt,
      'fetch-history': fetchByHistory,
      arrived: () => {
        if (error) throw error
        return { messages: chains.messages, disordered: chains.disordered }
      },
      heads: () => chains.heads
    }
  }
}
