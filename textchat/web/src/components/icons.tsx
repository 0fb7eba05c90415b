// Line icons of 24 by 24, drawn for this page.
const icon = (d: string) => () => (
  <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"><path d={d} /></svg>
);
export const Mic = icon('M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21M9 21h6');
export const Camera = icon('M4 7h10a1.5 1.5 0 0 1 1.5 1.5v7A1.5 1.5 0 0 1 14 17H4a1.5 1.5 0 0 1-1.5-1.5v-7A1.5 1.5 0 0 1 4 7zM15.5 11l5.5-3v8l-5.5-3');
export const CameraOff = icon('M7 7H4a1.5 1.5 0 0 0-1.5 1.5v7A1.5 1.5 0 0 0 4 17h10c.5 0 .9-.2 1.2-.6M11 7h3a1.5 1.5 0 0 1 1.5 1.5V11l5.5-3v8l-3-1.6M4 4l16 16');
export const MicOff = icon('M9 9v2a3 3 0 0 0 4.6 2.5M15 11V6a3 3 0 0 0-5.7-1.3M5.5 11a6.5 6.5 0 0 0 10 5.5M18 13.5a6.5 6.5 0 0 0 .5-2.5M12 17.5V21M9 21h6M4 4l16 16');
export const Ear = icon('M4 14v-2a8 8 0 0 1 16 0v2M4 14v3a2 2 0 0 0 2 2h1v-6H5a1 1 0 0 0-1 1zM20 14v3a2 2 0 0 1-2 2h-1v-6h2a1 1 0 0 1 1 1z');
export const EarOff = icon('M4 14v-2a8 8 0 0 1 2.5-5.8M9.5 4.4A8 8 0 0 1 20 12v4M4 14v3a2 2 0 0 0 2 2h1v-6H5a1 1 0 0 0-1 1zM17 17v2h1M4 4l16 16');
export const Leave = icon('M3 14.5C3 13 7 10 12 10s9 3 9 4.5-.5 2.5-1.5 2.5-3.5-.7-3.5-1.7v-2a13 13 0 0 0-8 0v2c0 1-2.5 1.7-3.5 1.7S3 16 3 14.5z');
export const Gear = icon('M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5zM9 14.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z');
export const Speaker = icon('M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4 4 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11');
export const Echo = icon('M4 12h10a4 4 0 0 0 0-8M4 12l4-4M4 12l4 4M20 12a8 8 0 0 1-8 8');
export const Hash = icon('M5 9h15M4 15h15M10 4 8 20M16 4l-2 16');
export const AddPerson = icon('M10 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM3.5 20a6.5 6.5 0 0 1 11-4.7M18 13v7M14.5 16.5h7');
export const Bars = icon('M4 20v-4M9 20v-8M14 20V8M19 20V4');
export const Send = icon('M4 12 20 4l-5 16-3.5-6.5zM11.5 13.5 20 4');
export const Close = icon('M6 6l12 12M18 6 6 18');
export const People = icon('M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5a6.5 6.5 0 0 1 3.5 5.5');
export const Talk = icon('M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 19 17h-7l-4.5 3.5V17H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5z');
export const Sun = icon('M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4');
export const Moon = icon('M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z');
export const Bin = icon('M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7');
export const Retry = icon('M19 12a7 7 0 1 1-2-4.9M17 3v4.5h-4.5');
export const Door = icon('M13 4H6v16h7M10 12h10M17 9l3 3-3 3');

export const Pen = icon('M4 20h4L19 9l-4-4L4 16zM13 7l4 4');
export const Reply = icon('M10 5 4 11l6 6v-4c5 0 8 1.5 10 5 0-7-4-9.5-10-9.5z');
export const Smile = icon('M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM8.5 14.5a4.5 4.5 0 0 0 7 0M9 9.7v.1M15 9.7v.1');
export const Dots = icon('M6 12v.1M12 12v.1M18 12v.1');
export const Back = icon('M14 6l-6 6 6 6');
export const Branch = icon('M5 5h14M5 5v8.5a3 3 0 0 0 3 3h7M12 13l3.5 3.5L12 20');
export const Down = icon('M12 5v14M6 13l6 6 6-6');
export const Plus = icon('M12 5v14M5 12h14');
export const Clip = icon('M19 11.5 12 18.5a4.5 4.5 0 0 1-6.4-6.4l7.5-7.5a3 3 0 0 1 4.3 4.3l-7.5 7.5a1.5 1.5 0 0 1-2.1-2.1L14 8');
export const Doc = icon('M7 3.5h7l4 4v13H7zM14 3.5v4h4');
export const Copy = icon('M9 9h10.5v11H9zM15 9V4.5H4.5V15H9');
export const Shield = icon('M12 3.5 5 6v5.5c0 4.5 3 7.5 7 9 4-1.5 7-4.5 7-9V6z');

export const Tune = icon('M12 8.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM12 2.5v3M12 18.5v3M2.5 12h3M18.5 12h3M5.3 5.3l2.1 2.1M16.6 16.6l2.1 2.1M5.3 18.7l2.1-2.1M16.6 7.4l2.1-2.1');
export const Pin = icon('M9 3.5h6l-1 6 3.5 4h-11l3.5-4zM12 13.5V21');
export const SmilePlus = icon('M20.3 12a8.5 8.5 0 1 1-7.8-8.5M8.5 14.5a4.5 4.5 0 0 0 7 0M9 9.7v.1M15 9.7v.1M19 2.5v6M16 5.5h6');

/** The mark: a sail of sound on a hull. */
export const Mark = () => (
  <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
    <g fill="currentColor"><rect x="6" y="14" width="3" height="6" rx="1.5" /><rect x="11" y="9" width="3" height="11" rx="1.5" /><rect x="16" y="3" width="3" height="17" rx="1.5" /><rect x="21" y="11" width="3" height="9" rx="1.5" /></g>
    <path d="M3 23h26c-1.2 3.6-4 6-7.5 6h-11C7 29 4.2 26.6 3 23z" fill="var(--lamp)" />
  </svg>
);
