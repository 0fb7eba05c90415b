// One's own camera: off until it is turned on, and given back when it is turned off.
import { computed, signal } from '@preact/signals';

/** What is sent and shown to oneself; null while the camera is off. */
export const cameraTrack = signal<MediaStreamTrack | null>(null);
export const filming = computed(() => cameraTrack.value !== null);
export const cameraProblem = signal('');

const wanted: MediaTrackConstraints = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 24, max: 30 } };
let turn = 0; // of turning it on or off

export const camera = {
  /** Whether a browser lends any at this address. */
  any: typeof navigator !== 'undefined' && !!navigator.mediaDevices,

  get track() { return cameraTrack.value; },

  /** Turns it on; null when that does not work, which is told, or when it was turned off meanwhile. */
  async acquire(): Promise<MediaStreamTrack | null> {
    const mine = ++turn;
    cameraProblem.value = '';
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
      const track = stream.getVideoTracks()[0]!;
      if (mine !== turn) { track.stop(); return cameraTrack.value; }
      track.onended = () => { if (cameraTrack.value === track) camera.release(); }; // unplugged: nothing is sent any more
      cameraTrack.value = track;
    } catch (e) {
      const name = (e as DOMException).name;
      if (mine === turn) {
        cameraProblem.value = name === 'NotAllowedError' ? 'The browser may not use the camera. To show yourself, allow it beside the address and turn it on again.'
          : name === 'NotFoundError' ? 'No camera was found. Plug one in and turn it on again.'
          : name === 'NotReadableError' ? 'The camera is used by something else. Close that and turn it on again.' : (e as Error).message;
      }
    }
    return cameraTrack.value;
  },

  release(): null {
    turn++;
    cameraProblem.value = '';
    const track = cameraTrack.value;
    cameraTrack.value = null;
    if (track) { track.onended = null; track.stop(); }
    return null;
  },
};
