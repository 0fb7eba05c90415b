// Package chart draws the plots of a report as inline SVG.
//
// In come numbers and names, out goes text to put into an HTML page beside
// [Style]. It is pure: the same chart gives the same bytes. Names may be hostile;
// whatever they hold, they stay text. What is drawn is bounded: [MaxLines] lines of
// [MaxPoints] points, 60 columns to hover over.
//
// Every chart has a title and a description for readers who do not see it, colours
// that colour-blind people tell apart (after Okabe and Ito, "Color Universal
// Design", with dashes from the fifth line on), and follows the reader's choice of
// light or dark.
package chart
