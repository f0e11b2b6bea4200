/**
 * Hourglass on a page that has a media element already. The address says the rest:
 * page.html#service=https://viewing.example&profile=…&token=…
 */
const settings = new URLSearchParams(location.hash.slice(1));
const service = settings.get("service");

export async function connect(video, titleId) {
  const { HourglassPlayer } = await import(`${service}/sdk/v1/hourglass-player.js`);
  const player = new HourglassPlayer({
    url: service,
    token: async () => settings.get("token"), // yours asks your own server
    profileId: settings.get("profile"),
    deviceId: "example-page",
  });
  const note = document.querySelector("#note");
  player.attach(video, { titleId });
  player.on("warning", ({ minutes }) => (note.textContent = `${minutes} minutes left`));
  player.on("blocked", () => (note.textContent = "That was all for today."));
  player.on("unblocked", () => (note.textContent = "There is time again."));
  player.on("superseded", ({ deviceType }) => (note.textContent = `Now it plays on another device (${deviceType}).`));
  player.on("error", ({ code }) => (note.textContent = `Refused: ${code}`));
  return player;
}
