import { render } from 'preact';
import '../style.css';
import { Console } from './Console';

render(<Console />, document.getElementById('app')!);
