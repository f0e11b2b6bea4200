/** Hourglass player SDK. See README.md. */

export declare const VERSION: string;

export type DeviceType = "tv" | "mobile" | "tablet" | "web";

/** `last-known`: play against the balance of the last answer; `never`; `always`. */
export type OfflinePolicy = "last-known" | "never" | "always";

export interface HourglassOptions {
  /** Where the service answers, without `/api/v1`; empty for the page's own origin. */
  url: string;
  /** A household token. Called again, with the one that was refused, when it has expired. */
  token: (reason: { refused: string | null }) => string | Promise<string>;
  profileId: string;
  /** Stays the same for a device; at most 100 characters. */
  deviceId: string;
  deviceType?: DeviceType;
  offline?: OfflinePolicy;
  /** Whether playback goes on by itself when time was given within ten minutes. Default true. */
  autoResume?: boolean;
  /** Whether heartbeats ask for a signed lease for a CDN or DRM proxy; `state.playbackLease` holds it. Default false. */
  lease?: boolean;
  /** Whether heartbeats tell the position of the media, for hints of tampering. Default false. */
  tellPosition?: boolean;
  /** Whether heartbeats tell what is left of the title, so that one that ends soon may be finished. Default false. */
  tellRemaining?: boolean;
  /** Other profiles of the account that watch this playback, at most four; `watchWith` changes them. */
  coViewers?: string[];
  /** Whether `/sdk/v1/version.json` is asked once. Default true. */
  versionCheck?: boolean;
  fetch?: typeof fetch;
  storage?: HourglassStorage;
}

/** Entries of one profile; `change` reads and writes all of them at once. */
export interface HourglassStorage {
  change<Result>(edit: (entries: Map<string, unknown>) => Result): Promise<Result>;
}

export declare class MemoryStorage implements HourglassStorage {
  change<Result>(edit: (entries: Map<string, unknown>) => Result): Promise<Result>;
}

export type Phase =
  | "idle" | "opening" | "playing" | "stopping" | "blocked" | "superseded" | "refused" | "offline";

/** What an answer said of a co-viewer. `code` says why it is not counted, for example `session_superseded`. */
export interface CoViewerState {
  profileId: string;
  enforcement?: string;
  remainingSeconds: number | null;
  usedSeconds?: number;
  code: string | null;
}

export interface HourglassState {
  phase: Phase;
  titleId: string | null;
  sessionId: string | null;
  enforcement: string | null;
  /** The rule that has ended playback, or that will; null where nothing will. */
  reason: string | null;
  /** null: unlimited, or not known yet. */
  remainingSeconds: number | null;
  /** What finishing a title beyond the limit took from the next day. */
  borrowedSeconds: number;
  usedSeconds: number | null;
  watchedSeconds: number;
  isEducational: boolean;
  isMeasuring: boolean;
  nextResetAt: string | null;
  stopAt: string | null;
  /** What a CDN or DRM proxy verifies, with the option `lease`; null when playback must not go on. */
  playbackLease: string | null;
  coViewers: CoViewerState[];
  connected: boolean;
}

export interface HourglassEvents {
  /** `profileId`: whose time is ending, by the rule `reason`. */
  warning: { minutes: number | null; remainingSeconds: number | null; reason: string | null; profileId: string };
  blocked: {
    reason: string; nextResetAt: string | null; availableAgainAt: string | null; offline: boolean; profileId: string;
  };
  /** For each co-viewer, with every answer. */
  coviewer: CoViewerState;
  unblocked: { resumes: boolean };
  superseded: { deviceType: string | null; at: string | null };
  update: HourglassState;
  offline: { mayPlay: boolean; remainingSeconds: number | null };
  error: { code: string; status: number; detail: string | null; fatal: boolean };
  /** The player was commanded to play or to pause. */
  play: Record<string, never>;
  pause: Record<string, never>;
  /** An event of the service as it came. */
  message: { name: string; data: unknown };
}

export interface ControlledPlayer {
  play(): unknown;
  pause(): unknown;
  /** Seconds; tells sleep from playback. */
  position?(): number;
  /** Seconds until the title ends, as it plays; for `tellRemaining`. */
  remaining?(): number | undefined;
}

export interface TimeRequest {
  request_id: string;
  minutes: number | null;
  note: string | null;
  status: string;
  [field: string]: unknown;
}

/** Whether a title may be started now; `reason` is `educational_exempt` where it costs no time. */
export interface Eligibility {
  eligible: boolean;
  reason: string;
  remaining_seconds: number | null;
  [field: string]: unknown;
}

export declare class HourglassPlayer {
  constructor(options: HourglassOptions);
  /** `remaining`: seconds until the title ends as it plays, where the element does not know; for `tellRemaining`. */
  attach(video: HTMLMediaElement, details?: { titleId?: string; remaining?: () => number | undefined }): this;
  control(player: ControlledPlayer): this;
  detach(): void;
  play(titleId?: string): void;
  pause(): void;
  title(titleId: string): void;
  end(): void;
  /** Name the other profiles that watch from now on, at most four. The sessions of those left out end. */
  watchWith(profileIds: string[]): void;
  listen(): void;
  destroy(): void;
  readonly state: HourglassState;
  on<Name extends keyof HourglassEvents>(name: Name, listener: (detail: HourglassEvents[Name]) => void): () => void;
  ask(minutes: number | null, note?: string): Promise<TimeRequest | null>;
  requests(): Promise<TimeRequest[] | null>;
  eligible(titleId: string): Promise<Eligibility | null>;
}

/** The instants of a call to the machine: ms (monotonic), ms (device's clock), seconds (media). */
export interface Instant {
  mono: number;
  wall: number;
  position?: number;
  remaining?: number;
}

/** The pure state machine, for players that bring their own timers and transport. */
export declare class PlaybackMachine {
  constructor(options: {
    profileId: string;
    deviceId: string;
    deviceType?: DeviceType;
    offline?: OfflinePolicy;
    autoResume?: boolean;
    lease?: boolean;
    tellPosition?: boolean;
    tellRemaining?: boolean;
    coViewers?: string[];
    random?: () => number;
    newId: () => string;
  });
  handle(event: { type: string; [field: string]: unknown }, now: Instant): { type: string; [field: string]: unknown }[];
  readonly wakeAt: number;
  state(now?: Instant): HourglassState;
}
