// Line icons of 24 by 24, drawn for this page.
const icon = (d: string) => () => (
  <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"><path d={d} /></svg>
);
export const Mic = icon('M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21M9 21h6');
export const MicOff = icon('M9 9v2a3 3 0 0 0 4.6 2.5M15 11V6a3 3 0 0 0-5.7-1.3M5.5 11a6.5 6.5 0 0 0 10 5.5M18 13.5a6.500 6.500 0 0 0 .5-2.5M12 17.500V21M9 21h6M4 4l16 16');
export const Ear = icon('M4 14v-2a8 8 0 0 1 16 0v2M4 14v3a2 2 0 0 0 2 2h1v-6H5a1 1 0 0 0-1 1zM20 14v3a2 2 0 0 1-2 2h-1v-6h2a1 1 0 0 1 1 1z');
export const EarOff = icon('M4 14v-2a8 8 0 0 1 2.500-5.800M9.500 4.400A8 8 0 0 1 20 12v4M4 14v3a2 2 0 0 0 2 2h1v-6H5a1 1 0 0 0-1 1zM17 17v2h1M4 4l16 16');
export const Leave = icon('M3 14.500c0-1.500 4-4.500 9-4.500s9 3 9 4.500-.500 2.500-1.500 2.500-3.500-.700-3.500-1.700v-2a13 13 0 0 0-8 0v2c0 1-2.500 1.700-3.500 1.700S3 16 3 14.500z');
export const Gear = icon('M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 2.500v3M12 18.500v3M2.500 12h3M18.500 12h3M5.300 5.300l2.100 2.100M16.600 16.600l2.100 2.100M5.300 18.700l2.100-2.100M16.600 7.400l2.100-2.100');
export const Speaker = icon('M4 9.500v5h3.500L12 18.500v-13L7.500 9.500zM15.500 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11');
export const Echo = icon('M4 9.500v5h3.500L12 18.500v-13L7.500 9.500zM16 8h4v4M20 8c0 5-1.500 7-4.500 8');
export const Hash = icon('M5 9h15M4 15h15M10 4 8 20M16 4l-2 16');
export const Link = icon('M10 14a4 4 0 0 0 5.700 0l3-3A4 4 0 0 0 13 5.300l-1 1M14 10a4 4 0 0 0-5.700 0l-3 3A4 4 0 0 0 11 18.700l1-1');
export const Bars = icon('M4 20v-4M9 20v-8M14 20V8M19 20V4');
export const Menu = icon('M4 7h16M4 12h16M4 17h16');
export const Send = icon('M4 12 20 4l-5 16-3.500-6.500zM11.500 13.500 20 4');
export const Close = icon('M6 6l12 12M18 6 6 18');
export const People = icon('M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 20a6.500 6.500 0 0 1 13 0M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14.500a6.500 6.500 0 0 1 3.500 5.500');
