import './api.test';
import './pure.test';
import './history.test';
import './markdown.test';
import './outbox.test';
import './people.test';
import './memberlist.test';
import './fleet.test';
