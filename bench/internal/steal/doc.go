// Package steal sees what the host takes away of a machine's cores at once: what is heard
// late then is not the doing of what is measured.
package steal
