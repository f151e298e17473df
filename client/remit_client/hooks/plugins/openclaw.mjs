// Puts every tool call of OpenClaw's agents before Remit's gate. Written by `remit hook install openclaw`.
// Whatever is not an "allow" blocks the call: no address, no engine, a slow one, an odd answer, an error in here.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry"

const WAIT_S = 280 // fetch gives a server up that has sent nothing for 300 s
const LIMIT_MS = 295_000
const REPORT_MS = 5_000
const MOST_BLOCKED = 1_000

const blocked = new Set()

async function post(event, limitMs, abortSignal) {
  const url = (process.env.REMIT_URL || "").replace(/\/+$/, "")
  const token = process.env.REMIT_TOKEN || ""
  if (!url || !token) throw new Error("REMIT_URL and REMIT_TOKEN are not set: this agent was not started by Remit")
  const signals = [AbortSignal.timeout(limitMs)]
  if (abortSignal instanceof AbortSignal) signals.push(abortSignal)
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
  if (process.env.REMIT_WORKSPACE) headers["remit-workspace"] = process.env.REMIT_WORKSPACE
  const answer = await fetch(`${url}/agent/v1/hooks/openclaw?wait=${WAIT_S}`, {
    method: "POST",
    redirect: "error",
    headers,
    body: JSON.stringify(event),
    signal: AbortSignal.any(signals),
  })
  if (answer.status !== 200) throw new Error(`the engine answers ${answer.status}`)
  return await answer.json()
}

function call(hook, event, context) {
  const cwd = context?.workspaceDir || process.env.REMIT_WORKSPACE || process.cwd()
  const { toolName, params, toolCallId } = event
  return { hook, toolName, params, toolCallId: toolCallId || context?.toolCallId, cwd }
}

async function before(event, context) {
  let reason = "Remit blocks this call: there is no answer"
  try {
    const answer = await post(call("before_tool_call", event, context), LIMIT_MS, context?.abortSignal)
    if (answer && answer.decision === "allow") return undefined
    if (answer && typeof answer.reason === "string" && answer.reason) reason = answer.reason
  } catch (error) {
    reason = `Remit blocks this call: ${(error && error.message) || "the plugin failed"}`
  }
  remember(event?.toolCallId || context?.toolCallId)
  return { block: true, blockReason: reason }
}

function remember(id) {
  if (!id) return
  if (blocked.size >= MOST_BLOCKED) blocked.delete(blocked.values().next().value)
  blocked.add(id)
}

async function after(event, context) {
  const id = event?.toolCallId || context?.toolCallId
  if (event?.blocked || (id && blocked.delete(id))) return
  try {
    const { result, error, durationMs } = event
    await post({ ...call("after_tool_call", event, context), result, error, durationMs }, REPORT_MS)
  } catch {
    // The call was made: there is nothing to hold up. What it reserved is settled when the run ends.
  }
}

export default definePluginEntry({
  id: "remit-gate",
  name: "Remit gate",
  register(api) {
    api.on("before_tool_call", before, { priority: 1000, timeoutMs: LIMIT_MS + 5_000 })
    api.on("after_tool_call", after)
  },
})
