package textchat

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of embeds, in characters.
const (
	MaxEmbeds           = 10
	MaxEmbedTitle       = 256
	MaxEmbedDescription = 4096
	MaxEmbedFields      = 25
	MaxEmbedFieldName   = 256
	MaxEmbedFieldValue  = 1024
	MaxEmbedFooter      = 2048
	MaxEmbedAuthor      = 256
	MaxEmbedText        = 6000 // of all embeds of a message together
	MaxURL              = 2048 // bytes
)

// Embed is a framed text with pictures. What is not named here is dropped.
type Embed struct {
	Title       string       `json:"title,omitempty"`
	Type        string       `json:"type"` // always "rich"
	Description string       `json:"description,omitempty"`
	URL         string       `json:"url,omitempty"`
	Timestamp   *Time        `json:"timestamp,omitempty"`
	Color       *int         `json:"color,omitempty"`
	Footer      *EmbedFooter `json:"footer,omitempty"`
	Image       *EmbedMedia  `json:"image,omitempty"`
	Thumbnail   *EmbedMedia  `json:"thumbnail,omitempty"`
	Author      *EmbedAuthor `json:"author,omitempty"`
	Fields      []EmbedField `json:"fields,omitempty"`
}

// EmbedFooter is the last line of an embed.
type EmbedFooter struct {
	Text    string `json:"text"`
	IconURL string `json:"icon_url,omitempty"`
}

// EmbedMedia is a picture of an embed.
type EmbedMedia struct {
	URL string `json:"url"`
}

// EmbedAuthor is the first line of an embed.
type EmbedAuthor struct {
	Name    string `json:"name"`
	URL     string `json:"url,omitempty"`
	IconURL string `json:"icon_url,omitempty"`
}

// EmbedField is one row of an embed.
type EmbedField struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Inline bool   `json:"inline"`
}

// CheckEmbeds cleans embeds and refuses what is too long, empty or no URL.
func CheckEmbeds(list []Embed) error {
	if len(list) > MaxEmbeds {
		return InvalidField("embeds", "BASE_TYPE_BAD_LENGTH", "Must be 10 or fewer in length.")
	}
	total := 0
	for i := range list {
		e, at := &list[i], "embeds."+strconv.Itoa(i)
		if err := e.check(at, &total); err != nil {
			return err
		}
		if total > MaxEmbedText {
			return InvalidField(at, "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000")
		}
	}
	return nil
}

func (e *Embed) check(at string, total *int) error {
	e.Type = "rich"
	before := *total
	type text struct {
		field    string
		v        *string
		most     int
		required bool
	}
	texts := []text{{"title", &e.Title, MaxEmbedTitle, false}, {"description", &e.Description, MaxEmbedDescription, false}}
	urls := []text{{"url", &e.URL, 0, false}}
	if e.Footer != nil {
		texts = append(texts, text{"footer.text", &e.Footer.Text, MaxEmbedFooter, true})
		urls = append(urls, text{"footer.icon_url", &e.Footer.IconURL, 1, false})
	}
	if e.Author != nil {
		texts = append(texts, text{"author.name", &e.Author.Name, MaxEmbedAuthor, true})
		urls = append(urls, text{"author.url", &e.Author.URL, 0, false}, text{"author.icon_url", &e.Author.IconURL, 1, false})
	}
	if e.Image != nil {
		urls = append(urls, text{"image.url", &e.Image.URL, 1, true})
	}
	if e.Thumbnail != nil {
		urls = append(urls, text{"thumbnail.url", &e.Thumbnail.URL, 1, true})
	}
	if len(e.Fields) > MaxEmbedFields {
		return InvalidField(at+".fields", "BASE_TYPE_BAD_LENGTH", "Must be 25 or fewer in length.")
	}
	for i := range e.Fields {
		f := at + ".fields." + strconv.Itoa(i)
		n := strings.TrimPrefix(f, at+".")
		texts = append(texts, text{n + ".name", &e.Fields[i].Name, MaxEmbedFieldName, true}, text{n + ".value", &e.Fields[i].Value, MaxEmbedFieldValue, true})
	}
	for _, t := range texts {
		*t.v = strings.TrimSpace(strings.ReplaceAll(*t.v, "\x00", ""))
		n := utf8.RuneCountInString(*t.v)
		switch {
		case n > t.most:
			return InvalidField(at+"."+t.field, "BASE_TYPE_MAX_LENGTH", "Must be "+strconv.Itoa(t.most)+" or fewer in length.")
		case n == 0 && t.required:
			return InvalidField(at+"."+t.field, "BASE_TYPE_REQUIRED", "This field is required")
		}
		*total += n
	}
	for _, u := range urls {
		switch {
		case *u.v == "" && u.required:
			return InvalidField(at+"."+u.field, "BASE_TYPE_REQUIRED", "This field is required")
		case *u.v != "" && !plainURL(*u.v, u.most == 1):
			return InvalidField(at+"."+u.field, "URL_TYPE_INVALID_URL", "Not a well formed URL.")
		}
	}
	switch {
	case e.Color != nil && (*e.Color < 0 || *e.Color > 0xffffff):
		return InvalidField(at+".color", "NUMBER_TYPE_RANGE", "Must be between 0 and 16777215.")
	case *total == before && e.Image == nil && e.Thumbnail == nil && e.URL == "":
		return InvalidField(at, "BASE_TYPE_REQUIRED", "An embed must not be empty.")
	}
	return nil
}

// plainURL says whether s is a URL that a reader may follow: http or https with
// a host, or (for pictures) a file of the same message.
func plainURL(s string, attachment bool) bool {
	if len(s) > MaxURL {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" || attachment && u.Scheme == "attachment"
}
