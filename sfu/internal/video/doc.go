// Package video is the core that forwards the cameras of a call, beside that of its
// voices (package call) and independent of it: what goes wrong here costs nobody a
// voice. It has no socket, clock, goroutine or log; time is an argument, counted from
// the start of the engine.
//
// In come members with their keys, their opened VP8 packets ([Call.Video]) and RTCP
// ([Call.Feedback]), and the time ([Call.Tick]). Out go sealed datagrams into an
// [egress.Batch], requests to the cameras ([Call.AppendRequests]), and facts: whose
// camera is in which view of whom.
//
// A camera is on while its packets come. The first sfu.MaxCameras of a call are
// forwarded, each to every member that has a view free for it; who comes later takes
// the views that others leave.
//
// What a viewer gets in a view looks like one encoder: sequence numbers keep the gaps
// and the order of the camera's own, so that what was lost on the way here is seen to
// be missing there; when the view changes to another camera they go on behind the last,
// and so do timestamps and the numbers of pictures. That change happens at a key frame,
// which is asked for.
//
// Lost packets: those that do not come from a camera are asked for by NACK, those that
// do not reach a viewer are sent again from the last [keptPackets] of the camera. If
// that does not help, viewers ask for a key frame, and the camera is asked for one at
// most every 500 ms, however many viewers want it.
//
// A call may span nodes ([Call.SetRelay]), as its voices do: each gives what comes of
// the cameras of its own members to the others, once, and passes on who there wants a key
// frame.
//
// Voices come first. A viewer that loses a tenth of its video or more gets none for a
// while, as that loss hits the voices on the same way; and while the worker sheds
// ([Call.Shed]) nobody gets any.
package video
