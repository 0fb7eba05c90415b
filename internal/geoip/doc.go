// Package geoip finds where on the earth an address is, in a database in the
// MaxMind DB format (GeoLite2 City, Country or any other with location, country or
// continent). The finer of them counts: a city is right within tens of kilometres,
// a country within hundreds, a continent says which ocean lies between.
package geoip
