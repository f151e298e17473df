// Puts every tool call before Remit's gate. Written by `remit hook install opencode`.
import { spawn } from "node:child_process"

const command = ["remit", "hook", "opencode"]
const limit = 600_000

function ask(event) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "pipe"], timeout: limit })
    let out = ""
    let err = ""
    child.stdout.on("data", (data) => (out += data))
    child.stderr.on("data", (data) => (err += data))
    child.on("error", reject)
    child.stdin.on("error", () => {})
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(err.trim() || "Remit blocks this call: the hook ended early"))
      try {
        resolve(JSON.parse(out))
      } catch {
        reject(new Error("Remit blocks this call: the hook gave no answer"))
      }
    })
    child.stdin.end(JSON.stringify(event))
  })
}

async function report(event) {
  try {
    await ask(event)
  } catch {}
}

export const Remit = async ({ directory }) => ({
  "tool.execute.before": async (input, output) => {
    const event = { tool: input.tool, sessionID: input.sessionID, callID: input.callID, args: output.args }
    const answer = await ask({ ...event, cwd: directory })
    if (!answer || answer.decision !== "allow")
      throw new Error((answer && answer.reason) || "Remit denies this call")
  },
  "tool.execute.after": async (input, output) => {
    const event = { event: "after", tool: input.tool, sessionID: input.sessionID, callID: input.callID, args: input.args }
    // The call was made: a report that fails holds nothing up.
    await report({ ...event, output: output.output, cwd: directory })
  },
})
